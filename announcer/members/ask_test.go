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

// connect tries it once, on this thread.
func connect(addr netip.AddrPort) error {
	d := net.Dialer{Timeout: askFor}
	conn, err := d.Dial("tcp", addr.String())
	if err == nil {
		_ = conn.Close()
	}
	return err
}
