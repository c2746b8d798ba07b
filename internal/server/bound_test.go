package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"testing"
	"time"
)

// from dials at from a loopback address, which counts as a source.
func from(t *testing.T, ip, at string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: time.Minute}).Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A source that opens 1,000 connections and says nothing has some of them, which end by
// themselves. Another source is answered meanwhile.
func TestAttackBySilentConnections(t *testing.T) {
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := probe.Addr().String()
	_ = probe.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	serve, err := Listen(at, mux)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	const attackers = 1000
	before := runtime.NumGoroutine()
	var conns []net.Conn
	for range attackers {
		conns = append(conns, from(t, "127.0.0.2", at))
	}
	c := from(t, "127.0.0.1", at)
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprint(c, "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("the kubelet is answered %v, %v", resp, err)
	} else {
		_ = resp.Body.Close()
	}
	served := runtime.NumGoroutine() - before
	t.Logf("attack: %d silent connections: %d are served", attackers, served)
	if served > mostPerSource+10 {
		t.Errorf("%d of %d connections of one source are served", served, attackers)
	}
	for i, c := range conns { // all end, the last ones with the header's timeout
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("connection %d stays open", i)
		}
	}
}

// An IPv6 host has 2^64 addresses, and is one source.
func TestSource(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7:80": "192.0.2.7/32", "[::ffff:192.0.2.7]:80": "192.0.2.7/32", "[2001:db8::7]:80": "2001:db8::/64", "[::1]:80": "::1/128", "127.0.0.1:1": "127.0.0.1/32",
	} {
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := source(a).String(); got != want {
			t.Errorf("%s is of %s, want %s", addr, got, want)
		}
	}
}
