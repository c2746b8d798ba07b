package failover

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fairlead/fairlead/e2e/lab"
)

// Scenario is one kind of fault.
type Scenario struct {
	Name  string
	Title string
	Usual time.Duration // the longest gap may be so long in the median run; 0: any
	Most  time.Duration // the longest gap that is allowed; 0: no request may fail
	Clean time.Duration // the latest that it may be clean for good; 0: any
	// Moves says that addresses move, away or back: connections that are open at that
	// moment end, and are counted apart from those that could not be opened.
	Moves bool
	act   func(context.Context, *fault) error
}

// Scenarios are all of them, in their order.
var Scenarios = []Scenario{
	{Name: "power-loss", Title: "node loses power", Usual: 150 * time.Millisecond, Most: 300 * time.Millisecond, Clean: 1500 * time.Millisecond, Moves: true, act: powerLoss},
	{Name: "power-loss-no-api", Title: "node loses power, no API server", Usual: 150 * time.Millisecond, Most: 300 * time.Millisecond, Clean: 1500 * time.Millisecond, Moves: true, act: powerLossWithoutAPI},
	{Name: "kill", Title: "agent killed (SIGKILL)", act: kill},
	{Name: "frozen", Title: "agent frozen", Most: time.Second, act: freeze},
	{Name: "drain", Title: "node cordoned, and back", Moves: true, act: drain},
	{Name: "shutdown", Title: "node says that it shuts down", Most: 100 * time.Millisecond, Moves: true, act: shutdown},
	{Name: "upgrade", Title: "agents replaced (rolling update)", act: upgrade},
}

// After a fault clients keep connecting for some time.
const (
	after      = 5 * time.Second
	afterAgent = 8 * time.Second // a kubelet starts the next agent
	afterWake  = 5 * time.Second
)

// fault is one fault, and how it is undone.
type fault struct {
	*Bench
	node  string
	at    time.Time
	notes string
	undos []func(context.Context) error
}

func (f *fault) undo(ctx context.Context) error {
	var errs []error
	for i := len(f.undos) - 1; i >= 0; i-- {
		errs = append(errs, f.undos[i](ctx))
	}
	return errors.Join(errs...)
}

func (f *fault) powerOff(ctx context.Context) error {
	f.undos = append(f.undos, func(ctx context.Context) error { return f.Lab.StartNode(ctx, f.node) })
	f.at = time.Now()
	if err := f.Lab.StopNode(ctx, f.node); err != nil {
		return err
	}
	return pause(ctx, after-time.Since(f.at))
}

func powerLoss(ctx context.Context, f *fault) error { return f.powerOff(ctx) }

func powerLossWithoutAPI(ctx context.Context, f *fault) error {
	if err := f.Lab.StopAPIServer(ctx); err != nil {
		return err
	}
	// The node is started when the API server is back.
	err := f.powerOff(ctx)
	f.undos = append(f.undos, f.Lab.StartAPIServer)
	return err
}

func (f *fault) agent(ctx context.Context) (lab.Pod, error) {
	pods, err := f.Lab.Pods(ctx, lab.FairleadNamespace, "app.kubernetes.io/component=agent")
	if err != nil {
		return lab.Pod{}, err
	}
	for _, p := range pods {
		if p.Node == f.node {
			return p, nil
		}
	}
	return lab.Pod{}, fmt.Errorf("no agent on %s", f.node)
}

func kill(ctx context.Context, f *fault) error {
	p, err := f.agent(ctx)
	if err != nil {
		return err
	}
	f.at = time.Now()
	if err := f.Lab.KillPod(ctx, p); err != nil {
		return err
	}
	return pause(ctx, afterAgent)
}

// freeze stops an agent, lets it continue, and looks whether its node then holds
// an address that others took over meanwhile.
func freeze(ctx context.Context, f *fault) error {
	p, err := f.agent(ctx)
	if err != nil {
		return err
	}
	f.at = time.Now()
	if err := f.Lab.SignalPod(ctx, p, "SIGSTOP"); err != nil {
		return err
	}
	if err := pause(ctx, f.Frozen); err != nil {
		return err
	}
	took := f.heldElsewhere(ctx)
	watch := fmt.Sprintf("for i in $(seq %d); do for a in %s; do %s; done; sleep 0.05; done",
		int(afterWake/(60*time.Millisecond)), strings.Join(took, " "), sayIfAnswered)
	watched := make(chan string, 1)
	go func() {
		out, err := f.Lab.Exec(ctx, f.node, "sh", "-c", watch)
		if err != nil {
			out = []byte(err.Error())
		}
		watched <- string(out)
	}()
	if err := f.Lab.SignalPod(ctx, p, "SIGCONT"); err != nil { // the kubelet may have killed it by now
		f.notes = "its kubelet was faster; "
	}
	seen := <-watched
	held := strings.Count(seen, "\n")
	f.notes += fmt.Sprintf("taken over %d of %d, held by two after waking %d times", len(took), len(f.service.ExternalIPs), held)
	if held > 0 {
		said, err := f.Lab.Kubectl(ctx, "-n", lab.FairleadNamespace, "logs", p.Name, "--since=30s")
		err = errors.Join(fmt.Errorf("%s held an address after it woke that another node has", f.node), err)
		return fmt.Errorf("%w:\n%sits agent says:\n%s", err, seen, said)
	}
	return nil
}

// sayIfAnswered prints a line if the kernel answers for $a. Only a link that answers
// has a time that is left.
const sayIfAnswered = `case "$(nft list table netdev fairlead 2>/dev/null)" in *expires*" . $a"[\ ,]*) echo "$(date +%T.%N) $a";; esac`

// heldElsewhere lists the addresses that other nodes hold.
func (f *fault) heldElsewhere(ctx context.Context) (out []string) {
	for _, ip := range f.service.ExternalIPs {
		for _, node := range f.Lab.Nodes() {
			if text, err := f.Lab.Exec(ctx, node, "sh", "-c", "a="+ip+"; "+sayIfAnswered); err == nil && len(text) > 0 && node != f.node {
				out = append(out, ip)
			}
		}
	}
	return out
}

// drainOnCordon is an Announcement under which a cordon moves addresses.
const drainOnCordon = `apiVersion: fairlead.io/v1alpha1
kind: Announcement
metadata: {name: bench-drain}
spec: {drainOn: [Cordon], l2: {}}
`

// announce makes the Announcement drainOnCordon.
func (f *fault) announce(ctx context.Context) error {
	f.undos = append(f.undos, func(ctx context.Context) error {
		_, err := f.Lab.Kubectl(ctx, "delete", "announcement", "bench-drain", "--ignore-not-found")
		return err
	})
	cmd := f.Lab.KubectlCommand(ctx, "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(drainOnCordon)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apply an Announcement: %w: %s", err, out)
	}
	return pause(ctx, time.Second) // until all agents know it
}

// shutdown has a Node say what its kubelet says while systemd waits for it: the addresses go,
// and return when the kubelet takes it back.
func shutdown(ctx context.Context, f *fault) error {
	before := len(f.heldElsewhere(ctx))
	f.at = time.Now()
	if _, err := f.Lab.Kubectl(ctx, "patch", "node", f.node, "--subresource=status", "--type=strategic", "--patch",
		`{"status":{"conditions":[{"type":"Ready","status":"False","reason":"KubeletNotReady","message":"node is shutting down"}]}}`); err != nil {
		return err
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	if len(f.heldElsewhere(ctx)) <= before {
		return fmt.Errorf("no address left %s, which shuts down", f.node)
	}
	return pause(ctx, after)
}

// drain cordons a node and takes that back: its addresses go and return. It
// counts the connections that were open and ended.
func drain(ctx context.Context, f *fault) error {
	if err := f.announce(ctx); err != nil {
		return err
	}
	var open []*lab.Prober
	for _, p := range f.paths() {
		if p.forget {
			continue
		}
		prober, err := f.Lab.StartProbe(ctx, p.host, p.target, "-keep", "-c=10", "-i=50ms", "-timeout=1s")
		if err != nil {
			return err
		}
		open = append(open, prober)
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	f.at = time.Now()
	for _, verb := range []string{"cordon", "uncordon"} {
		if _, err := f.Lab.Kubectl(ctx, verb, f.node); err != nil {
			return err
		}
		if verb == "cordon" {
			f.undos = append(f.undos, func(ctx context.Context) error {
				_, err := f.Lab.Kubectl(ctx, "uncordon", f.node)
				return err
			})
		}
		if err := pause(ctx, after); err != nil {
			return err
		}
	}
	lost := 0
	for _, prober := range open {
		r, err := prober.Stop()
		if err != nil {
			return err
		}
		lost += min(r.Failures, 10) // a connection that is lost fails all its requests
	}
	f.notes = fmt.Sprintf("of %d open connections %d ended", 10*len(open), lost)
	return nil
}

func upgrade(ctx context.Context, f *fault) error {
	f.at = time.Now()
	for _, args := range [][]string{{"restart"}, {"status", "--timeout=3m"}} {
		if _, err := f.Lab.Kubectl(ctx, append([]string{"-n", lab.FairleadNamespace, "rollout", args[0], "daemonset/fairlead-agent"}, args[1:]...)...); err != nil {
			return err
		}
	}
	f.notes = fmt.Sprintf("all replaced after %.0f s", time.Since(f.at).Seconds())
	return pause(ctx, after)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
