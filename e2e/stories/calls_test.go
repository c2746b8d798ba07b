package stories

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/probe"
)

// patience is how long an open connection may take to answer. After a loss TCP sends
// again after 0.2 s, and then after twice the time before: for the seventh time after 25 s.
// A client whose request was acknowledged asks by a keepalive after 15 s.
const patience = time.Minute

// call is a connection of a client that stays open, and the pod at its other end.
type call struct {
	net.Conn
	in        *bufio.Reader
	vip       string
	pod, node string
	err       error         // it has ended
	longest   time.Duration // that one request took
	last      time.Duration // that the last request took
}

// dial opens connections from a host to a VIP. Each has been answered by a pod that saw the
// host, or saw a node if hidden.
func dial(t *testing.T, host, vip string, n int, hidden bool) (all []*call) {
	t.Helper()
	l := cluster(t)
	if err := l.At(host, func() error {
		for range n {
			conn, err := net.DialTimeout("tcp", net.JoinHostPort(vip, "80"), patience)
			if err != nil {
				return err
			}
			all = append(all, &call{Conn: conn, in: bufio.NewReader(conn), vip: vip})
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		a, err := c.answer()
		if err != nil {
			t.Fatalf("%s, just opened: %v", c, err)
		}
		c.pod, c.node = a.Pod, a.Node
		saw := netip.MustParseAddr(a.Client)
		if (saw != c.from().Addr()) != hidden {
			t.Errorf("%s: the pod sees %s", c, a.Client)
		}
	}
	return all
}

func (c *call) from() netip.AddrPort {
	at := netip.MustParseAddrPort(c.LocalAddr().String())
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

func (c *call) String() string {
	return fmt.Sprintf("%s to %s, with %s on %s", c.from(), c.vip, c.pod, c.node)
}

// get asks for a page, and returns it. A connection that has ended stays so.
func (c *call) get(page string) (body []byte, err error) {
	if c.err != nil {
		return nil, c.err
	}
	began := time.Now()
	defer func() {
		c.last, c.err = time.Since(began), err
		c.longest = max(c.longest, c.last)
	}()
	if err := c.SetDeadline(began.Add(patience)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: directed\r\n\r\n", page); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}

// answer asks who is at the other end.
func (c *call) answer() (a probe.Answer, err error) {
	body, err := c.get("/")
	if err == nil {
		err = json.Unmarshal(body, &a)
	}
	if err == nil && c.pod != "" && a.Pod != c.pod {
		err = fmt.Errorf("%s answers instead of %s", a.Pod, c.pod)
	}
	return a, err
}

// hung reports whether the connection ended without a word to the client.
func (c *call) hung() bool { return errors.Is(c.err, os.ErrDeadlineExceeded) }

// crowd is many calls that all ask once a second while they talk.
type crowd struct {
	host  string // that they are of
	vips  []string
	calls []*call
	quiet chan struct{} // closed when they are to be quiet; nil: they are
	talks sync.WaitGroup
}

// fill opens connections until n are open, as many to each VIP. Nobody talks meanwhile.
func (c *crowd) fill(t *testing.T, n int) {
	t.Helper()
	for _, vip := range c.vips {
		want := n / len(c.vips)
		for _, k := range c.calls {
			if k.vip == vip && k.err == nil {
				want--
			}
		}
		c.calls = append(c.calls, dial(t, c.host, vip, max(want, 0), false)...)
	}
}

func (c *crowd) talk() {
	quiet := make(chan struct{})
	c.quiet = quiet
	for i, k := range c.calls {
		if k.err != nil {
			continue
		}
		c.talks.Go(func() {
			wait := time.Duration(i) * time.Second / time.Duration(len(c.calls)) // not all at once
			for k.err == nil {
				select {
				case <-quiet:
					return
				case <-time.After(wait):
				}
				_, k.err = k.answer()
				wait = time.Second
			}
		})
	}
}

// hush waits until the last requests of all are answered, or have failed.
func (c *crowd) hush() {
	if c.quiet != nil {
		close(c.quiet)
		c.talks.Wait()
		c.quiet = nil
	}
}

// close ends all connections.
func (c *crowd) close() {
	c.hush()
	for _, k := range c.calls {
		_ = k.Close()
	}
}

// judge wants all connections open but those that are excused, which are to have been
// told. It keeps the ones that are open.
func (c *crowd) judge(t *testing.T, excused func(*call) bool) {
	t.Helper()
	var open []*call
	var longest, told time.Duration
	ended, lost := 0, 0
	for _, k := range c.calls {
		switch {
		case k.err == nil:
			open = append(open, k)
			longest = max(longest, k.longest)
			k.longest = 0
			continue
		case !excused(k) || k.hung():
			if lost++; lost <= 5 {
				t.Errorf("%s: %v after %s", k, k.err, k.last.Round(time.Millisecond))
			}
		default:
			ended++
			told = max(told, k.last)
		}
		_ = k.Close()
	}
	t.Logf("of %d open connections %d were lost; %d ended with their pods, and were told after %s at the latest; the longest wait for an answer was %s",
		len(c.calls), lost, ended, told.Round(time.Millisecond), longest.Round(time.Millisecond))
	if lost > 0 {
		t.Errorf("%d of %d connections are lost, or ended without a word to the client", lost, len(c.calls))
	}
	c.calls = open
}
