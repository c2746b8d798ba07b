// Package livez asks a kube-apiserver whether it lives.
package livez

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/internal/controlplane"
)

// Asker asks the kube-apiserver at one address. Each question is a connection of its own,
// as a new client's.
type Asker struct {
	url    string
	client *http.Client
}

// New makes an Asker. With the file of a CA's certificate, which is read for each question,
// a server without a certificate of that CA for the address is bad. Without one every
// certificate will do: the address is the node's own, and nothing secret is sent.
func New(at netip.AddrPort, caFile string) *Asker {
	dialer := &net.Dialer{Timeout: controlplane.AskFor}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		config := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // see New
		if caFile != "" {
			pool, err := authority(caFile)
			if err != nil {
				return nil, err
			}
			config = &tls.Config{RootCAs: pool, ServerName: at.Addr().String()}
		}
		return (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(ctx, network, addr)
	}
	return &Asker{
		url:    fmt.Sprintf("https://%s/livez", at),
		client: &http.Client{Timeout: controlplane.AskFor, Transport: &http.Transport{DialTLSContext: dial, DisableKeepAlives: true}},
	}
}

func authority(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("CA: %s has no certificate", file)
	}
	return pool, nil
}

// Ask asks once. With an answer that is not good it also returns why.
func (a *Asker) Ask(ctx context.Context) (controlplane.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, controlplane.AskFor+100*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url, nil)
	if err != nil {
		return controlplane.Bad, err
	}
	resp, err := a.client.Do(req)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return controlplane.Refused, err
	case err != nil:
		return controlplane.Bad, err
	}
	_ = resp.Body.Close()
	switch resp.StatusCode {
	// A server that lets nobody ask without a name says so: it lives.
	case http.StatusOK, http.StatusUnauthorized, http.StatusForbidden:
		return controlplane.Good, nil
	}
	return controlplane.Bad, fmt.Errorf("%s: %s", a.url, resp.Status)
}
