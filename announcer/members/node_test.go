package members

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// runNode makes this test's binary a member: "name address", then the other's.
const runNode = "FAIRLEAD_MEMBERS_NODE"

// nodeMain is a process that is one member and prints its view.
func nodeMain() {
	var name, bind, other, seed string
	if _, err := fmt.Sscan(os.Getenv(runNode), &name, &bind, &other, &seed); err != nil {
		panic(err)
	}
	boot, err := BootID()
	if err != nil {
		panic(err)
	}
	places := NewPlaces(map[string]netip.AddrPort{other: netip.MustParseAddrPort(seed)})
	wake := make(chan struct{}, 1)
	m, err := New(Config{
		Node: name, Boot: boot, Bind: netip.MustParseAddrPort(bind), Keys: [][]byte{key}, Log: slog.New(slog.DiscardHandler),
		Places: func() *Places { return places },
		Changed: func() {
			select {
			case wake <- struct{}{}:
			default:
			}
		},
	})
	if err != nil {
		panic(err)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	m.Say(announcer.Report{Electable: snapshot.Electable{InSync: true}})
	go func() {
		for range wake {
			fmt.Println(strings.ReplaceAll(m.View().String(), "\n", "; "))
		}
	}()
	if err := m.Run(ctx); err != nil {
		panic(err)
	}
}

// process is such a process, and the last view that it printed.
type process struct {
	cmd  *exec.Cmd
	mu   sync.Mutex
	view string
}

func spawn(t *testing.T, in nstest.Space, name, bind, other, seed string) *process {
	t.Helper()
	p := &process{cmd: exec.Command("ip", "netns", "exec", in.Name, os.Args[0])}
	p.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s %s", runNode, name, bind, other, seed))
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() { defer close(read); p.follow(out) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-read
		_ = p.cmd.Wait()
	})
	return p
}

func (p *process) follow(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		p.mu.Lock()
		p.view = lines.Text()
		p.mu.Unlock()
	}
}

func (p *process) says(t *testing.T, want string) time.Duration {
	t.Helper()
	began, last := time.Now(), ""
	for time.Since(began) < patience {
		p.mu.Lock()
		last = p.view
		p.mu.Unlock()
		if strings.Contains(last, want) {
			return time.Since(began).Round(time.Millisecond)
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Fatalf("not %q, but %q", want, last)
	return 0
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// TestKernel tries it over a real network, IPv4 and IPv6: an agent is killed, is
// stopped, restarts, and its node vanishes.
func TestKernel(t *testing.T) {
	for _, family := range [][3]string{
		{"192.0.2.1/24", "192.0.2.2/24", "%s:7947"}, {"2001:db8::1/64", "2001:db8::2/64", "[%s]:7947"},
	} {
		t.Run(family[0], func(t *testing.T) {
			one, two := nstest.New(t, "one"), nstest.New(t, "two")
			nstest.Wire(t, one, two, family[0], family[1])
			at := func(i int) string { return fmt.Sprintf(family[2], netip.MustParsePrefix(family[i]).Addr()) }
			a := spawn(t, one, "a", at(0), "b", at(1))
			b := spawn(t, two, "b", at(1), "a", at(0))
			a.says(t, "b "+at(1)+" alive candidate")
			b.says(t, "a "+at(0)+" alive candidate")

			b.signal(t, syscall.SIGTERM)
			t.Log("stopped by SIGTERM, known after", a.says(t, "agent-gone candidate says in-sync,restarting"))
			_ = b.cmd.Wait()
			b = spawn(t, two, "b", at(1), "a", at(0))
			t.Log("started again, known after", a.says(t, "b "+at(1)+" alive candidate says in-sync,settled"))

			b.signal(t, syscall.SIGSTOP)
			t.Log("frozen, known after", a.says(t, "agent-gone candidate"))
			b.signal(t, syscall.SIGCONT)
			a.says(t, "b "+at(1)+" alive")

			b.signal(t, syscall.SIGKILL)
			t.Log("killed, known after", a.says(t, "agent-gone candidate"))
			two.Run(t, "ip", "link", "set", "eth0", "down")
			t.Log("and then without power, known after", a.says(t, "node-gone quarantine"))

			two.Run(t, "ip", "link", "set", "eth0", "up")
			if strings.Contains(family[0], ":") {
				two.Run(t, "ip", "addr", "replace", family[1], "dev", "eth0", "nodad")
			}
			b = spawn(t, two, "b", at(1), "a", at(0))
			t.Log("back, known after", a.says(t, "b "+at(1)+" alive"))
			b.says(t, "a "+at(0)+" alive")
			time.Sleep(500 * time.Millisecond)
			two.Run(t, "ip", "link", "set", "eth0", "down")
			t.Log("power loss, known after", a.says(t, "node-gone quarantine"))
		})
	}
}
