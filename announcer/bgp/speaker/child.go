package speaker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/announcer/bgp/gobgp"
)

// process is one session and the process that holds it.
type process struct {
	peer    bgp.Peer // as last wanted, with its paths
	status  gobgp.Status
	crashes uint64
	past    gobgp.Status // counts of the processes before
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *os.File
}

// answerWithin is how long a process may take to obey.
const answerWithin = 5 * time.Second

// restart starts the process, anew if there was one.
func (p *process) restart(cmd *exec.Cmd, routerID netip.Addr) error {
	if p.cmd != nil {
		p.crashes++
		p.kill()
		p.past = p.status
		if p.past.Established {
			p.past.Flaps++
		}
	}
	p.status = gobgp.Status{State: "Idle", Since: time.Now(), LastError: "the session's process is being started", Flaps: p.past.Flaps, Updates: p.past.Updates}
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	out, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer func() { _ = write.Close() }()
	cmd.Stdout, cmd.Stderr = write, os.Stderr
	if err := cmd.Start(); err != nil {
		_ = out.Close()
		return fmt.Errorf("start: %w", err)
	}
	p.cmd, p.in, p.out = cmd, in, out
	return p.do(p.order(routerID))
}

func (p *process) order(routerID netip.Addr) gobgp.Order {
	return gobgp.Order{Do: "announce", RouterID: routerID, Peer: p.peer}
}

// same tells whether the session can go on as want. How its path is watched does
// not matter to it.
func (p *process) same(want bgp.Peer) bool {
	have := p.peer
	have.Paths, want.Paths, have.BFD, want.BFD = nil, nil, nil, nil
	return reflect.DeepEqual(have, want)
}

// announce makes want's paths those of the session.
func (p *process) announce(want bgp.Peer, routerID netip.Addr) error {
	same := reflect.DeepEqual(p.peer.Paths, want.Paths)
	p.peer = want
	if same || p.cmd == nil {
		return nil
	}
	return p.do(p.order(routerID))
}

// do gives the process an order and takes in how it stands then.
func (p *process) do(o gobgp.Order) error {
	if p.cmd == nil {
		return errors.New("there is no process")
	}
	if err := p.out.SetReadDeadline(time.Now().Add(answerWithin)); err != nil {
		return fmt.Errorf("session's process: %w", err)
	}
	if err := json.NewEncoder(p.in).Encode(o); err != nil {
		return fmt.Errorf("session's process: %w", err)
	}
	var a gobgp.Answer
	if err := json.NewDecoder(p.out).Decode(&a); err != nil {
		return fmt.Errorf("session's process: %w", err)
	}
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
	err := p.do(gobgp.Order{Do: "close"})
	p.kill()
	return err
}

// kill ends the process; the kernel closes its session.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	_ = p.in.Close()
	_ = p.out.Close()
	p.cmd = nil
}
