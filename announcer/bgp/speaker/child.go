package speaker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/announcer/bgp/gobgp"
	"github.com/fairlead/fairlead/internal/confine"
)

// process is one session and the process that holds it, one after the other.
type process struct {
	peer    bgp.Peer // as last wanted, with its paths
	status  gobgp.Status
	crashes uint64
	failed  int          // how often it failed, one soon after the other
	started time.Time    // when the last process was
	past    gobgp.Status // counts of the processes before
	cmd     *exec.Cmd
	in, out *os.File
	conns   *net.UnixConn // to pass connections with the router through
	said    *said         // what it writes to its standard error

	stopDialling context.CancelFunc
}

// answerWithin is how long a process may take to obey.
const answerWithin = 5 * time.Second

// longestAnswer is how many bytes of an answer are read. A process that a router has taken
// over says what the router wants.
const longestAnswer = 64 << 10

// The pauses before a process is started again. The first follows at once.
const (
	shortestPause = time.Second
	longestPause  = 30 * time.Second
	// sound is how long a process must have lived for its failure to be the first.
	sound = time.Minute
)

// due reports whether a process that failed may be started again at now.
func (p *process) due(now time.Time) bool {
	if p.failed < 2 {
		return true
	}
	// One that failed at once was started again every half second.
	return now.Sub(p.started) >= min(shortestPause<<min(p.failed-2, 8), longestPause)
}

// start starts the process, and has what it writes logged.
func (p *process) start(cmd *exec.Cmd, log *slog.Logger) error {
	p.started = time.Now()
	p.status = gobgp.Status{State: "Idle", Since: time.Now(), LastError: "the session's process is being started", Flaps: p.past.Flaps, Updates: p.past.Updates}
	read, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = read.Close() }()
	out, write, err := os.Pipe()
	if err != nil {
		_ = in.Close()
		return err
	}
	defer func() { _ = write.Close() }()
	conns, theirs, err := pair()
	if err != nil {
		return errors.Join(err, in.Close(), out.Close())
	}
	defer func() { _ = theirs.Close() }()
	p.said = &said{log: log}
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = read, write, p.said, []*os.File{theirs}
	if err := confine.Start(cmd); err != nil {
		return errors.Join(err, in.Close(), out.Close(), conns.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	p.cmd, p.in, p.out, p.conns, p.stopDialling = cmd, in, out, conns, stop
	if !p.peer.Passive {
		go answerRequests(ctx, conns, p.peer)
	}
	return nil
}

// dialEvery is how often a process gets a connection at most, whatever it asks for.
const dialEvery = 250 * time.Millisecond

// answerRequests gives a process connections to p, and to nobody else, until ctx ends.
func answerRequests(ctx context.Context, conns *net.UnixConn, p bgp.Peer) {
	for gobgp.Requested(conns) == nil {
		next := time.After(dialEvery)
		wire, err := dial(ctx, p)
		if err == nil {
			err = gobgp.Pass(conns, wire)
			wire.Close() // the process has its own
		} else {
			err = gobgp.Refuse(conns, err)
		}
		if err != nil {
			return
		}
		select {
		case <-next:
		case <-ctx.Done():
			return
		}
	}
}

// pair is a Unix socket and, for a child, its other end.
func pair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "connections"), os.NewFile(uintptr(fds[1]), "connections")
	defer func() { _ = ours.Close() }() // FileConn has its own
	conn, err := net.FileConn(ours)
	conns, ok := conn.(*net.UnixConn)
	if err != nil || !ok {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return conns, theirs, nil
}

// crashed ends what is left of a process that failed.
func (p *process) crashed() {
	p.crashes++
	p.fails()
	p.kill()
	// It ended before it could count that itself.
	if p.past.Established {
		p.past.Flaps++
	}
}

// fails counts a failure.
func (p *process) fails() {
	if time.Since(p.started) >= sound {
		p.failed = 0
	}
	p.failed++
}

// order has the process announce. It needs no password: its connections have it.
func (p *process) order(routerID netip.Addr) gobgp.Order {
	peer := p.peer
	peer.Password = ""
	return gobgp.Order{Do: "announce", RouterID: routerID, Peer: peer}
}

// same reports whether the session can go on as want. How its path is watched does
// not matter to it.
func (p *process) same(want bgp.Peer) bool {
	have := p.peer
	have.Paths, want.Paths, have.BFD, want.BFD = nil, nil, nil, nil
	return reflect.DeepEqual(have, want)
}

// update gives the session the paths of g, or asks for its status if it has them.
func (p *process) update(g goal) error {
	same := reflect.DeepEqual(p.peer.Paths, g.peer.Paths)
	p.peer = g.peer
	if g.reset != "" {
		if err := p.do(gobgp.Order{Do: "reset", Why: g.reset}); err != nil {
			return err
		}
	}
	if same {
		return p.do(gobgp.Order{Do: "status"})
	}
	return p.do(p.order(g.routerID))
}

// do gives the process an order and takes in how it stands then.
func (p *process) do(o gobgp.Order) error {
	if p.cmd == nil {
		return errors.New("there is no process")
	}
	deadline := time.Now().Add(answerWithin)
	if err := errors.Join(p.in.SetWriteDeadline(deadline), p.out.SetReadDeadline(deadline)); err != nil {
		return fmt.Errorf("session's process: %w", err)
	}
	if err := json.NewEncoder(p.in).Encode(o); err != nil {
		return fmt.Errorf("session's process: %w", err)
	}
	var a gobgp.Answer
	if err := json.NewDecoder(io.LimitReader(p.out, longestAnswer)).Decode(&a); err != nil {
		return fmt.Errorf("session's process: %w", err)
	}
	a = checked(a)
	p.status = a.Status
	p.status.Flaps += p.past.Flaps
	p.status.Updates += p.past.Updates
	if a.Error != "" {
		return errors.New(a.Error)
	}
	return nil
}

// close withdraws the paths, ends the session with a NOTIFICATION, and then the
// process.
func (p *process) close() error {
	if p.cmd == nil {
		return nil
	}
	counted := p.status
	err := p.do(gobgp.Order{Do: "close"})
	// The answer to this order has no status.
	p.status = counted
	p.kill()
	return err
}

// kill ends the process; the kernel closes its session. What it counted stays.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	p.stopDialling()
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	if p.said != nil {
		p.said.end()
	}
	_ = p.in.Close()
	_ = p.out.Close()
	_ = p.conns.Close()
	p.cmd, p.past = nil, p.status
}
