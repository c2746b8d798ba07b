package livez

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"testing"

	"github.com/fairlead/fairlead/internal/controlplane"
)

// What servers say, and what that makes of them.
func TestAsk(t *testing.T) {
	for name, s := range map[string]struct {
		status int
		want   controlplane.Answer
	}{
		"it lives":              {http.StatusOK, controlplane.Good},
		"it asks for a name":    {http.StatusUnauthorized, controlplane.Good},
		"it forbids":            {http.StatusForbidden, controlplane.Good},
		"it does not live":      {http.StatusInternalServerError, controlplane.Bad},
		"it is something else":  {http.StatusNotFound, controlplane.Bad},
		"it sends us elsewhere": {http.StatusMovedPermanently, controlplane.Bad},
	} {
		srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/livez" {
				t.Errorf("%s: asked for %s", name, r.URL)
			}
			w.WriteHeader(s.status)
		}))
		at := netip.MustParseAddrPort(srv.Listener.Addr().String())
		if got, err := New(at, "").Ask(t.Context()); got != s.want || (err == nil) != (got == controlplane.Good) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, s.want)
		}
		srv.Close()
		if got, err := New(at, "").Ask(t.Context()); got != controlplane.Refused {
			t.Errorf("a server that is gone: %v, %v", got, err)
		}
	}
}

// With a CA, a server with another certificate is not the kube-apiserver.
func TestAskWithCA(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	defer srv.Close()
	at := netip.MustParseAddrPort(srv.Listener.Addr().String())
	file := t.TempDir() + "/ca.crt"
	ask := func() controlplane.Answer {
		got, err := New(at, file).Ask(t.Context())
		t.Log(got, err)
		return got
	}
	if ask() != controlplane.Bad {
		t.Error("without the CA's file the server is believed")
	}
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(file, own, 0o600); err != nil {
		t.Fatal(err)
	}
	if ask() != controlplane.Good {
		t.Error("with its CA the server is not believed")
	}
	if err := os.WriteFile(file, otherCA(t), 0o600); err != nil {
		t.Fatal(err)
	}
	if ask() != controlplane.Bad {
		t.Error("a server of another CA is believed")
	}
}

// A server that takes connections and says nothing is bad, after AskFor.
func TestAskOfOneThatHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if got, err := New(netip.MustParseAddrPort(l.Addr().String()), "").Ask(t.Context()); got != controlplane.Bad || err == nil {
		t.Errorf("%v, %v", got, err)
	}
}

// otherCA returns a certificate that signed nothing.
func otherCA(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
