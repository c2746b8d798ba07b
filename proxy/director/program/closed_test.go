package program

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// A client that has said all, and whose FIN is sent again, gets the rest of the answer. Conntrack
// takes the second FIN for the other side's, and holds the connection for closed.
func TestHalfClosed(t *testing.T) {
	nstest.NeedRoot(t)
	l := newLab(t, Options{}, "a", "b", "c")
	l.needOracle(t)
	client := l.segment(t)
	l.prefer(t, "b c a")
	for _, n := range l.nodes {
		n.attach(t)
	}
	l.halfClose(t, client)
	for _, n := range l.nodes {
		if c := n.counters(t); c.Diverted > 0 || c.Reset > 0 {
			t.Errorf("%s looked for the connections elsewhere: %+v", n.name, c)
		}
	}
}

// answerAtEnd is a server on node b that reads a connection to its end, and then sends 100,000
// bytes.
func (l *lab) answerAtEnd(t *testing.T, vip netip.AddrPort) {
	t.Helper()
	var on net.Listener
	l.node("b").space.Do(t, func() (err error) {
		on, err = net.Listen("tcp", vip.String())
		return err
	})
	t.Cleanup(func() { on.Close() })
	go func() {
		for {
			c, err := on.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, c)
			_, _ = c.Write(make([]byte, 100_000))
			_ = c.Close()
		}
	}()
}

// halfClose ends what a client sends over both families, has the client send that end again, and
// wants the answers.
func (l *lab) halfClose(t *testing.T, client nstest.Space) {
	t.Helper()
	var conns []net.Conn
	for _, f := range families {
		l.answerAtEnd(t, f.vip)
		client.Do(t, func() error {
			c, err := net.DialTimeout("tcp", f.vip.String(), patience)
			conns = append(conns, c)
			return err
		})
		t.Cleanup(func() { conns[len(conns)-1].Close() })
	}
	client.Pipe(t, "table inet deaf { chain c { type filter hook prerouting priority -400; tcp sport 80 drop; }; }", "nft", "-f", "-")
	for _, c := range conns {
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		nstest.Eventually(t, "conntrack to hold the connection for closed", func() bool {
			return strings.Contains(l.node("b").space.Run(t, "conntrack", "-L", "-f", family), "TIME_WAIT")
		})
	}
	client.Run(t, "nft", "delete", "table", "inet", "deaf")
	for _, c := range conns {
		_ = c.SetDeadline(time.Now().Add(patience))
		if n, err := io.Copy(io.Discard, c); n != 100_000 {
			t.Errorf("%s: %d bytes came back: %v", c.RemoteAddr(), n, err)
		}
	}
}
