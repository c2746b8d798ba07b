package agent

import (
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/saved"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// An agent whose ClusterIP of the API server is not served by anybody, as after a reboot
// of its node without kube-proxy, asks the API servers that its snapshot shows.
func TestAPIServersOfTheSavedSnapshot(t *testing.T) {
	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"gitVersion": "v1"}`) }))
	defer api.Close()
	cert := api.Certificate()
	cfg := &rest.Config{
		Host: "https://127.97.31.1:1", Timeout: time.Minute, // nobody
		TLSClientConfig: rest.TLSClientConfig{CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), ServerName: cert.DNSNames[0]},
	}
	paths, err := kube.Reach(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	clients, err := kube.FromConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	clients.Paths = paths
	if v, err := clients.Kube.Discovery().ServerVersion(); err == nil {
		t.Fatalf("%s answers already", v)
	}
	dir := t.TempDir()
	s := &snapshot.Snapshot{Services: []*snapshot.Service{{
		Ref:       snapshot.Ref{Namespace: "default", Name: "kubernetes"},
		Endpoints: []snapshot.Endpoint{{PortName: "https", Protocol: snapshot.TCP, Addr: netip.MustParseAddrPort(api.Listener.Addr().String()), Ready: true}},
	}}}
	if err := saved.Write(dir, saved.State{Node: "n1", Snapshot: s}); err != nil {
		t.Fatal(err)
	}
	c := cluster{cfg: &Config{Node: "n1", StateDir: dir, Clients: clients, Log: slog.New(slog.DiscardHandler)}}
	c.recall()
	if v, err := clients.Kube.Discovery().ServerVersion(); err != nil || v.GitVersion != "v1" {
		t.Errorf("after the snapshot was read: %v, %v", v, err)
	}
}
