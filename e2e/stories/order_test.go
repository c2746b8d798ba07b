package stories

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/e2e/lab"
)

// The stories run in any order. A story that counts every request says with the
// functions of this file which traces of earlier stories it cannot bear.

// electable makes every node one that may be elected. A node that was without power, or
// whose agent started while others worked, becomes a candidate after a minute of health.
// Addresses then move to it, and the connections that are open at that moment end. A story
// need not wait for that minute: agents that all start at the same time are candidates at
// once, as in a cluster that is new.
func electable(t *testing.T) {
	t.Helper()
	cluster(t)
	if err := allCandidates(t.Context()); err != nil {
		t.Logf("restarting all agents: %v", err)
		agentsAnew(t)
	}
	candidates(t)
}

// candidates waits until every node may be elected.
func candidates(t *testing.T) {
	t.Helper()
	cluster(t)
	eventually(t, takeOver, "every node to be a candidate", allCandidates)
}

// allCandidates objects unless every node sees that all may be elected.
func allCandidates(ctx context.Context) error {
	for _, node := range shared.Nodes() {
		n, err := metricAt(ctx, node, probeAddress, "fairlead_member_candidates")
		if err == nil && int(n) != shared.Agents() {
			err = fmt.Errorf("%s sees %v candidates of %d", node, n, shared.Agents())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// agentsAnew kills all agents at the same time and waits for those that follow them. One
// that lived on would remember who was healthy for how long. A pod that is new starts at
// once, where a container of the same pod might wait.
func agentsAnew(t *testing.T) {
	t.Helper()
	l := cluster(t)
	const agents = "app.kubernetes.io/component=agent"
	var kills sync.WaitGroup
	for _, p := range pods(t, lab.FairleadNamespace, agents, l.Agents()) {
		kills.Go(func() { _ = l.KillPod(t.Context(), p) }) // it fails if the agent has ended by itself
	}
	kills.Wait()
	kubectl(t, "-n", lab.FairleadNamespace, "delete", "pods", "-l", agents, "--grace-period=0", "--force")
	pods(t, lab.FairleadNamespace, agents, l.Agents())
}

// forgotten makes every node forget the connections to addresses. Services of
// different stories get the same address, and clients use the same ports again. A
// connection that was begun while a story had taken fairlead's tables out is not
// translated, and the kernel takes a new one from the same port for it.
func forgotten(t *testing.T, addresses ...string) {
	t.Helper()
	l := cluster(t)
	for _, node := range l.Nodes() {
		for _, address := range addresses {
			eventually(t, settled, node+" to forget connections to "+address, func(ctx context.Context) error { return forget(ctx, l, node, address) })
		}
	}
}

func forget(ctx context.Context, l *lab.Lab, node, address string) error {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return err
	}
	family := map[bool]string{true: "ipv4", false: "ipv6"}[ip.Is4()]
	_, _ = l.Exec(ctx, node, "conntrack", "--delete", "--family", family, "--orig-dst", address) // it fails if there is none
	left, err := l.Exec(ctx, node, "conntrack", "--dump", "--family", family, "--orig-dst", address)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("it remembers %s", left)
	}
	return err
}
