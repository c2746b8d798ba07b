package sample

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/internal/server"
	"github.com/fairlead/fairlead/internal/traffic"
)

// However often it is asked, the table is read once a second, and less often if
// that takes long.
func TestHandlerReadsSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads, takes := 0, time.Duration(0)
		h := &Handler{
			Node: "n1", VIPs: func() map[netip.Addr]bool { return nil }, Counts: func() bool { return true },
			Flows: func(func(traffic.Flow)) error {
				reads++
				time.Sleep(takes)
				return nil
			},
		}
		ask := func(long time.Duration) {
			for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, nil)
				var r traffic.Report
				if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || r.Node != "n1" || !r.Counts || r.VIPs == nil {
					t.Fatalf("%v: %s", err, w.Body)
				}
			}
		}
		ask(10 * time.Second)
		if reads != 10 {
			t.Errorf("%d reads in 10 s", reads)
		}
		time.Sleep(time.Second)
		reads, takes = 0, 200*time.Millisecond
		ask(11 * time.Second)
		if reads != 5 {
			t.Errorf("%d reads in 11 s that take 0.2 s each", reads)
		}
	})
}

// One source that asks on many connections, and does not read the answers, has as many as
// one source may have. Another one is answered, and however often they ask, an answer is
// made once a second.
func TestAttackByQuestionsForTraffic(t *testing.T) {
	const vips, attackers = 5_000, 200
	all := map[netip.Addr]bool{}
	for i := range vips {
		all[netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})] = true
	}
	var made atomic.Int32
	h := &Handler{
		Node: "n1", VIPs: func() map[netip.Addr]bool { return all }, Counts: func() bool { made.Add(1); return true },
		Flows: func(take func(traffic.Flow)) error {
			for vip := range all {
				take(traffic.Flow{Protocol: 6, To: netip.AddrPortFrom(vip, 80)})
			}
			return nil
		},
	}
	at := serve(t, h)
	began := time.Now()
	var conns []net.Conn
	for range attackers {
		conn := from(t, "127.0.0.2", at)
		_, _ = fmt.Fprint(conn, strings.Repeat("GET /traffic HTTP/1.1\r\nHost: a\r\n\r\n", 20))
		conns = append(conns, conn)
	}
	conn := from(t, "127.0.0.1", at)
	if _, err := fmt.Fprint(conn, "GET /traffic HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var r traffic.Report
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil || len(r.VIPs) != vips {
		t.Errorf("the other source is told of %d addresses, %v", len(r.VIPs), err)
	}
	answered := 0
	for _, c := range conns {
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if n, _ := c.Read(make([]byte, 1)); n > 0 {
			answered++
		}
	}
	most := int32(time.Since(began)/time.Second) + 1
	t.Logf("attack: %d connections of one source that ask: %d are answered, and %d answers are made in %s", attackers, answered, made.Load(), time.Since(began).Round(time.Second))
	if answered == 0 || answered > 32 || made.Load() > most {
		t.Errorf("%d connections of one source are answered, and %d answers are made", answered, made.Load())
	}
}

// serve serves h as an agent does, and returns where.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := free.Addr().String()
	_ = free.Close()
	run, err := server.Listen(at, h)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return at
}

// from connects to at from a loopback address, which counts as a source.
func from(t *testing.T, ip, at string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: time.Minute}).Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
