package probe

import (
	"net"
	"net/http"
	"net/http/httptest"
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

// With Keep all requests of a worker are made over one connection, and none any more
// once the server has closed it.
func TestHTTPKeepsItsConnection(t *testing.T) {
	for _, row := range []struct {
		name           string
		end            func(http.ResponseWriter) // of the fifth request
		answered, lost int
	}{
		{"to the end", func(http.ResponseWriter) {}, 10, 0},
		{"the server says that it closes", func(w http.ResponseWriter) { w.Header().Set("Connection", "close") }, 5, 5},
		{"it closes under a request", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, 4, 6},
	} {
		t.Run(row.name, func(t *testing.T) {
			clients, requests := map[string]bool{}, 0
			var server *httptest.Server
			server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				clients[r.RemoteAddr] = true
				if requests++; requests == 5 {
					row.end(w)
				}
				_, _ = w.Write(NewAnswer(server.Listener.Addr(), server.Listener.Addr()).Line())
			}))
			target, err := url.Parse(server.URL + "/")
			if err != nil {
				t.Fatal(err)
			}
			p := Probe{Target: target, Keep: true, Requests: 10, Workers: 1, Timeout: 10 * time.Second}
			r := Summarise("x", p.Run(t.Context()))
			server.Close()
			if len(clients) != 1 || r.Requests-r.Failures != row.answered || r.Reasons[errLost.Error()] != row.lost {
				t.Errorf("%d connections, %d answers, failures %v", len(clients), r.Requests-r.Failures, r.Reasons)
			}
		})
	}
}
