package probe

import (
	"net"
	"net/url"
	"testing"
	"time"
)

// A server that takes connections and says nothing is told from one that takes none.
func TestSilentServer(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	p := Probe{Target: &url.URL{Scheme: "http", Host: server.Addr().String(), Path: "/"}, Requests: 2, Workers: 1, Timeout: 100 * time.Millisecond}
	if r := Summarise("x", p.Run(t.Context())); r.Reasons["no answer"] != 2 {
		t.Errorf("the kernel takes the connections, nobody answers: %v", r.Reasons)
	}
}
