package probe

import (
	"net"
	"net/url"
	"testing"
	"time"
)

// With Keep all of a worker's datagrams leave one socket, without it each one
// another.
func TestUDPKeepsItsSocket(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	clients, done := map[string]bool{}, make(chan struct{})
	go func() {
		defer close(done)
		for {
			_, from, err := server.ReadFrom(make([]byte, 100))
			if err != nil {
				return
			}
			clients[from.String()] = true
			_, _ = server.WriteTo(NewAnswer(server.LocalAddr(), from).Line(), from)
		}
	}()
	target := &url.URL{Scheme: "udp", Host: server.LocalAddr().String()}
	for _, keep := range []bool{true, false} {
		p := Probe{Target: target, Keep: keep, Requests: 10, Workers: 1, Timeout: 10 * time.Second}
		if r := Summarise("x", p.Run(t.Context())); r.Requests != 10 || r.Failures != 0 {
			t.Errorf("keep %v: %+v", keep, r)
		}
	}
	server.Close()
	<-done
	if len(clients) < 3 || len(clients) > 11 { // the kernel may give a port twice
		t.Errorf("%d client sockets, want 1 and 10", len(clients))
	}
}
