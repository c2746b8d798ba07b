package members

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/announcer"
)

// Prober asks the kernel of a node whether it is there. addr is where the node's
// agent spoke.
type Prober interface {
	Ask(ctx context.Context, addr netip.AddrPort) announcer.Answer
}

// How a kernel is asked: tries are begun askEvery apart, and none is waited for
// longer than askFor after the first began.
const (
	askTries = 3
	askEvery = 50 * time.Millisecond
	askFor   = 150 * time.Millisecond
)

// kernelProber opens a TCP connection to the port of the silent agent. If the
// agent is gone the node's kernel refuses it, if it hangs the kernel accepts:
// both are answers that only that kernel gives. Beside an ARP request it works
// for IPv6 and across routers, needs no capability, passes the same firewall
// rules as the gossip did, and no proxy ARP answers for the dead.
type kernelProber struct {
	from netip.Addr // the address that the others know this node by
}

func (k kernelProber) Ask(ctx context.Context, addr netip.AddrPort) announcer.Answer {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	answers := make(chan announcer.Answer, askTries)
	for i := range askTries {
		go func() { answers <- ask(ctx, time.Duration(i)*askEvery, k.from, addr) }()
	}
	worst := announcer.Unknown
	for range askTries {
		switch a := <-answers; a {
		case announcer.Answered:
			return a
		case announcer.NoAnswer:
			worst = a
		}
	}
	return worst
}

func ask(ctx context.Context, after time.Duration, from netip.Addr, addr netip.AddrPort) announcer.Answer {
	wait := time.NewTimer(after)
	defer wait.Stop()
	select {
	case <-ctx.Done():
	case <-wait.C:
	}
	conn, err := (&net.Dialer{LocalAddr: localAddr(from)}).DialContext(ctx, "tcp", addr.String())
	if err == nil {
		_ = conn.Close()
	}
	return answerOf(err)
}

// answerOf tells what the outcome of a connection attempt says of the kernel at
// the other end.
func answerOf(err error) announcer.Answer {
	switch {
	case err == nil, errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return announcer.Answered
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return announcer.NoAnswer
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return announcer.NoAnswer
	}
	// No route, no permission: this node's own trouble. EHOSTUNREACH within askFor is a
	// firewall that refuses: the kernel itself waits seconds for a host that is not there.
	return announcer.Unknown
}
