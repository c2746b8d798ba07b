package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/e2e/probe"
)

// server answers on its listeners until its context ends.
type server struct {
	ready   atomic.Bool
	closers []func() error
	serve   []func() error
}

// newServer listens on all ports before it returns.
func newServer(httpPorts, tcpPorts, udpPorts string) (*server, error) {
	s := &server{}
	s.ready.Store(true)
	for _, group := range []struct {
		ports  string
		listen func(port string) error
	}{{httpPorts, s.listenHTTP}, {tcpPorts, s.listenTCP}, {udpPorts, s.listenUDP}} {
		ports, err := split(group.ports)
		if err != nil {
			s.close()
			return nil, err
		}
		for _, port := range ports {
			if err := group.listen(port); err != nil {
				s.close()
				return nil, err
			}
		}
	}
	if len(s.serve) == 0 {
		return nil, errors.New("no port to serve")
	}
	return s, nil
}

// split reads ports and ranges FIRST-LAST.
func split(text string) (ports []string, err error) {
	for _, entry := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		first, last, isRange := strings.Cut(entry, "-")
		if !isRange {
			ports = append(ports, entry)
			continue
		}
		from, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return nil, err
		}
		to, err := strconv.ParseUint(last, 10, 16)
		if err != nil {
			return nil, err
		}
		for port := from; port <= to; port++ {
			ports = append(ports, strconv.FormatUint(port, 10))
		}
	}
	return ports, nil
}

// run serves until ctx ends, then for drain longer without being ready.
func (s *server) run(ctx context.Context, drain time.Duration) error {
	failed := make(chan error, len(s.serve))
	for _, serve := range s.serve {
		go func() { failed <- serve() }()
	}
	defer s.close()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	s.ready.Store(false)
	select {
	case err := <-failed:
		return err
	case <-time.After(drain):
		return nil
	}
}

func (s *server) close() {
	for _, c := range s.closers {
		_ = c()
	}
}

func (s *server) listenHTTP(port string) error {
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	h := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	s.closers = append(s.closers, h.Close)
	s.serve = append(s.serve, func() error { return h.Serve(l) })
	return nil
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", s.tellReady)
	mux.HandleFunc("POST /ready", s.setReady)
	mux.HandleFunc("GET /bytes", bytes)
	mux.HandleFunc("/", hello)
	return mux
}

func hello(w http.ResponseWriter, r *http.Request) {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	remote, err := net.ResolveTCPAddr("tcp", r.RemoteAddr)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(probe.NewAnswer(local, remote).Line())
}

// maxBytes is the longest answer of bytes.
const maxBytes = 1 << 30

// bytes answers with as many zeros as ?n= says.
func bytes(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
	if err != nil || n < 0 || n > maxBytes {
		http.Error(w, fmt.Sprintf("n is not a number up to %d", maxBytes), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	zeros := make([]byte, 64<<10)
	for n > 0 {
		part := zeros[:min(n, int64(len(zeros)))]
		if _, err := w.Write(part); err != nil {
			return // the client has gone
		}
		n -= int64(len(part))
	}
}

func (s *server) tellReady(w http.ResponseWriter, _ *http.Request) {
	if !s.ready.Load() {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

func (s *server) setReady(w http.ResponseWriter, r *http.Request) {
	s.ready.Store(r.URL.Query().Get("ok") != "false")
	fmt.Fprintln(w, "ready:", s.ready.Load())
}

func (s *server) listenTCP(port string) error {
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, l.Close)
	s.serve = append(s.serve, func() error { return serveTCP(l) })
	return nil
}

func serveTCP(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			_, _ = conn.Write(probe.NewAnswer(conn.LocalAddr(), conn.RemoteAddr()).Line())
		}()
	}
}

func (s *server) listenUDP(port string) error {
	c, err := net.ListenPacket("udp", ":"+port)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, c.Close)
	s.serve = append(s.serve, func() error { return serveUDP(c) })
	return nil
}

func serveUDP(c net.PacketConn) error {
	buffer := make([]byte, 2048)
	for {
		_, from, err := c.ReadFrom(buffer)
		if err != nil {
			return err
		}
		_, _ = c.WriteTo(probe.NewAnswer(c.LocalAddr(), from).Line(), from) // a lost answer is the client's to count
	}
}
