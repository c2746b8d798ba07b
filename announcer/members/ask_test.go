package members

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// TestAnswerOf: what an attempt to connect says of the kernel at the other end.
func TestAnswerOf(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want announcer.Answer
	}{
		{nil, announcer.Answered},
		{syscall.ECONNREFUSED, announcer.Answered},
		{syscall.ECONNRESET, announcer.Answered},
		{context.DeadlineExceeded, announcer.NoAnswer},
		{os.ErrDeadlineExceeded, announcer.NoAnswer},
		{syscall.ETIMEDOUT, announcer.NoAnswer},
		{syscall.EHOSTUNREACH, announcer.Unknown}, // somebody else answered for it
		{syscall.ENETUNREACH, announcer.Unknown},
		{syscall.EACCES, announcer.Unknown},
	} {
		if got := answerOf(&net.OpError{Op: "dial", Err: tt.err}); tt.err != nil && got != tt.want {
			t.Errorf("%v: the kernel %s, want that it %s", tt.err, got, tt.want)
		}
	}
	if got := answerOf(nil); got != announcer.Answered {
		t.Errorf("no error: the kernel %s", got)
	}
}

// TestRejectIsNotDeath: a firewall that refuses for a node does not make it dead.
func TestRejectIsNotDeath(t *testing.T) {
	for kind, want := range map[string]announcer.Answer{
		"reject with icmp type host-unreachable": announcer.Unknown,
		"reject with icmp type admin-prohibited": announcer.Unknown,
		"reject with icmp type port-unreachable": announcer.Answered,
		"reject with tcp reset":                  announcer.Answered,
		"drop":                                   announcer.NoAnswer,
	} {
		t.Run(kind, func(t *testing.T) {
			one, two := nstest.New(t, "one"), nstest.New(t, "two")
			nstest.Wire(t, one, two, "192.0.2.1/24", "192.0.2.2/24")
			two.Pipe(t, fmt.Sprintf("table ip f { chain input { type filter hook input priority 0; meta l4proto tcp %s; }; }", kind), "nft", "-f", "-")
			var got announcer.Answer
			one.Do(t, func() error {
				got = answerOf(connect(netip.MustParseAddrPort("192.0.2.2:7947")))
				return nil
			})
			if got != want {
				t.Errorf("the kernel %s, want that it %s", got, want)
			}
		})
	}
}

// TestFullQueueIsNotDeath: so many have connected with an agent that stands still that its kernel
// takes no further connection. Its node is not gone while that kernel answers on a link.
func TestFullQueueIsNotDeath(t *testing.T) {
	one, two := nstest.New(t, "one"), nstest.New(t, "two")
	nstest.Wire(t, one, two, "192.0.2.1/24", "192.0.2.2/24")
	at := netip.MustParseAddrPort("192.0.2.2:7947")
	two.Do(t, func() error {
		// The length of the queue: net.Listen asks for more than this kernel's default.
		if err := os.WriteFile("/proc/sys/net/core/somaxconn", []byte("1"), 0o600); err != nil {
			return err
		}
		l, err := net.Listen("tcp", at.String())
		if err == nil {
			t.Cleanup(func() { _ = l.Close() })
		}
		return err
	})
	one.Do(t, func() error {
		for answerOf(connect(at)) == announcer.Answered {
		}
		return nil
	})
	none := NewPlaces(nil)
	m := &Members{opinions: map[string]*opinions{}}
	m.cfg.Places, m.cfg.Prober = func() *Places { return none }, inSpace{one}
	ask := announcer.Ask{Node: "two", Addr: at, Again: true}
	if got := m.check(t.Context(), ask); got != announcer.NoAnswer {
		t.Errorf("by its port alone, the kernel %s: the queue is not full", got)
	}
	m.cfg.Answers = func(node string) bool { return node == "two" }
	if got := m.check(t.Context(), ask); got != announcer.Answered {
		t.Errorf("the kernel answers on a link, and %s", got)
	}
}

// inSpace asks from a namespace.
type inSpace struct{ nstest.Space }

func (s inSpace) Ask(_ context.Context, addr netip.AddrPort) announcer.Answer {
	return answerOf(s.In(func() error { return connect(addr) }))
}

// connect tries it once, on this thread.
func connect(addr netip.AddrPort) error {
	d := net.Dialer{Timeout: askFor}
	conn, err := d.Dial("tcp", addr.String())
	if err == nil {
		_ = conn.Close()
	}
	return err
}
