package server

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// What others may have of a server at a time. Probes and scrapes come one after the
// other, and take milliseconds.
const (
	mostConns     = 512
	mostPerSource = 32
)

// HTTP returns a server for h that waits for nobody long: a connection that is silent or
// slow ends by itself.
func HTTP(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
	}
}

// Bound returns l with a limit on connections: of one source, which is an IPv4 address
// or an IPv6 /64, and of all. What is beyond is closed at once. Only the limit of one
// source holds for the host itself: probes of the kubelet get through.
func Bound(l net.Listener) net.Listener {
	return &bound{Listener: l, open: map[netip.Prefix]int{}}
}

type bound struct {
	net.Listener
	mu   sync.Mutex
	open map[netip.Prefix]int // by source
	all  int                  // but the host's own
}

// Accept implements net.Listener.
func (b *bound) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if from := source(conn.RemoteAddr()); b.take(from) {
			return &counted{Conn: conn, end: sync.OnceFunc(func() { b.give(from) })}, nil
		}
		_ = conn.Close()
	}
}

func (b *bound) take(from netip.Prefix) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open[from] >= mostPerSource || b.all >= mostConns && !from.Addr().IsLoopback() {
		return false
	}
	b.open[from]++
	if !from.Addr().IsLoopback() {
		b.all++
	}
	return true
}

func (b *bound) give(from netip.Prefix) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open[from]--; b.open[from] == 0 {
		delete(b.open, from)
	}
	if !from.Addr().IsLoopback() {
		b.all--
	}
}

// source is what counts as one source: a host with an IPv6 address has 2^64 of them.
func source(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	if addr.IsLoopback() {
		bits = addr.BitLen()
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// counted is a connection that counts until it is closed.
type counted struct {
	net.Conn
	end func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.end()
	return c.Conn.Close()
}
