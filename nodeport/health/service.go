package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	bounded "github.com/fairlead/fairlead/internal/server"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
)

// Servers holds the sockets that answer healthCheckNodePorts.
type Servers struct {
	proxy *Proxy
	log   *slog.Logger

	mu   sync.Mutex
	open map[socket]*server
	wg   sync.WaitGroup
}

// socket names one listener. Another Service's on the same port is another one.
type socket struct {
	service snapshot.Ref
	addr    netip.AddrPort
}

type server struct {
	http  http.Server
	local int // guarded by Servers.mu
}

// NewServers makes Servers without any socket. Close them in the end.
func NewServers(p *Proxy, log *slog.Logger) *Servers {
	return &Servers{proxy: p, log: log, open: map[socket]*server{}}
}

// Sync closes the sockets that are not wanted any more, opens the new ones and
// takes over the counts. What can't be opened is a Problem, and tried again by
// the next Sync.
func (s *Servers) Sync(ctx context.Context, want []nodeport.Listener) []snapshot.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := make(map[socket]bool, len(want))
	for _, l := range want {
		wanted[socket{l.Service, l.Addr}] = true
	}
	// Closed first: another Service may have the port from now on.
	for at := range s.open {
		if !wanted[at] {
			s.close(at)
		}
	}
	var problems []snapshot.Problem
	for _, l := range want {
		at := socket{l.Service, l.Addr}
		if s.open[at] == nil {
			if err := s.listen(ctx, at); err != nil {
				problems = append(problems, snapshot.Problem{
					Service: l.Service, Reason: nodeport.HealthCheckFailed,
					Message: fmt.Sprintf("healthCheckNodePort %d: %v", l.Addr.Port(), err),
				})
				continue
			}
		}
		s.open[at].local = l.Local
	}
	return nodeport.SortProblems(problems)
}

// Close closes every socket and waits until nothing is served any more.
func (s *Servers) Close() {
	s.mu.Lock()
	for _, at := range slices.Collect(maps.Keys(s.open)) {
		s.close(at)
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *Servers) close(at socket) {
	_ = s.open[at].http.Close() // about connections that are cut off
	delete(s.open, at)
	s.log.Info("closed a health check port", "service", at.service, "address", at.addr)
}

func (s *Servers) listen(ctx context.Context, at socket) error {
	network := "tcp6"
	// Each family has a socket of its own. With "tcp", one at :: would take the port of both.
	if at.addr.Addr().Is4() {
		network = "tcp4"
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, network, at.addr.String())
	if err != nil {
		return fmt.Errorf("open the port: %w", err)
	}
	srv := &server{http: http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { s.answer(w, at) }),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}}
	s.open[at] = srv
	s.wg.Go(func() {
		// Without a bound 8,000 silent connections stayed, with 18 KB of the agent's memory each.
		if err := srv.http.Serve(bounded.Bound(l)); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("a health check port does not answer any more", "service", at.service, "address", at.addr, "error", err)
			s.forget(at, srv)
		}
	})
	s.log.Info("opened a health check port", "service", at.service, "address", at.addr)
	return nil
}

// forget lets the next Sync open a socket again that ended by itself.
func (s *Servers) forget(at socket, srv *server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[at] == srv {
		delete(s.open, at)
	}
}

// answer says how many endpoints the Service has here. Any path will do.
func (s *Servers) answer(w http.ResponseWriter, at socket) {
	s.mu.Lock()
	srv := s.open[at]
	local := 0
	if srv != nil {
		local = srv.local
	}
	s.mu.Unlock()
	if srv == nil {
		return // closed meanwhile, with this connection
	}
	healthy := s.proxy.Healthy(time.Now())
	header(w)
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(local))
	if local == 0 || !healthy {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	const body = "{\n\t\"service\": {\n\t\t\"namespace\": %q,\n\t\t\"name\": %q\n\t},\n\t\"localEndpoints\": %d,\n\t\"serviceProxyHealthy\": %v\n}"
	_, _ = fmt.Fprintf(w, body, at.service.Namespace, at.service.Name, local, healthy)
}
