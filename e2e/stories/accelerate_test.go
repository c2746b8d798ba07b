package stories

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf/link"

	"github.com/fairlead/fairlead/e2e/lab"
)

// programs is how many of them a node has.
const programs = 9

// eBPF is turned on in the cluster, and off again while a pod asks: on every node
// its own pods' connections go to endpoints directly, those of pods that opted out
// do not, an agent that is killed harms none, and in the end nothing of it is left.
func TestSocketsAreConnectedDirectlyUntilItIsTurnedOff(t *testing.T) {
	l := cluster(t)
	undo(t, func(ctx context.Context) error { return l.ConfigureFairlead(ctx) })
	// One more kubelet on the machine, one more cgroup of pods: each agent is told its own.
	atOnce := "agent.updateStrategy.rollingUpdate.maxUnavailable=" + strconv.Itoa(len(l.Nodes()))
	if err := l.ConfigureFairlead(t.Context(), atOnce, "agent.accelerate=auto", "agent.accelerateUDP=true",
		"agent.extraArgs={--cgroup=/host"+l.Cgroup("$(NODE_NAME)")+"}"); err != nil {
		t.Fatal(err)
	}
	applyFile(t, "direct.yaml")
	for _, node := range l.Nodes() {
		wantAccelerated(t, node, "nftables+ebpf", 1, programs)
	}
	servers, visitor := pods(t, "default", "app=direct", len(l.Nodes())), pods(t, "default", "app=visitor", 1)[0]
	fronts := frontsOf(t, "direct", visitor.Node)
	for _, f := range fronts {
		eventually(t, settled, f.target+" without nftables", func(context.Context) error { return notDirect(t, visitor, f, len(servers)) })
	}
	wantDirect := func(t *testing.T) {
		t.Helper()
		for _, f := range fronts {
			if err := notDirect(t, visitor, f, len(servers)); err != nil {
				t.Error(err)
			}
		}
	}
	some := []front{fronts[0], fronts[len(fronts)-1]} // of each protocol and family
	t.Run("every address of the Service", wantDirect)
	t.Run("pods that opted out", func(t *testing.T) {
		goByNftables(t, pods(t, "default", "app=left-alone", 1)[0], some, len(servers))
		goByNftables(t, pods(t, "mesh", "app=meshed", 1)[0], some, len(servers))
	})
	t.Run("the server of a UDP socket goes", func(t *testing.T) { serverGoes(t, visitor) })
	t.Run("an agent is killed", func(t *testing.T) {
		w, node := watchFrom(t, visitor, fronts), visitor.Node
		began := metricNow(t, node, startTime)
		if err := l.KillPod(t.Context(), agentOf(t, node)); err != nil {
			t.Fatal(err)
		}
		nextAgent(t, node, began)
		wantAccelerated(t, node, "nftables+ebpf", 1, programs)
		w.wantUnharmed(t)
		wantDirect(t)
	})
	t.Run("turned off", func(t *testing.T) {
		w := watchFrom(t, visitor, fronts)
		if err := l.ConfigureFairlead(t.Context(), atOnce); err != nil {
			t.Fatal(err)
		}
		for _, node := range l.Nodes() {
			wantAccelerated(t, node, "nftables", 0, 0)
		}
		w.wantUnharmed(t)
		goByNftables(t, visitor, some, len(servers))
	})
}

// serverGoes deletes the only server that a pod's UDP socket is connected to: the
// socket would go on sending there, and is closed.
func serverGoes(t *testing.T, client lab.Pod) {
	t.Helper()
	l, server := cluster(t), pods(t, "default", "app=lone", 1)[0]
	target := "udp://" + net.JoinHostPort(kubectl(t, "get", "service", "lone", "-o", "jsonpath={.spec.clusterIP}"), "53")
	eventually(t, settled, target+" to answer", func(context.Context) error { return objection(podAsks(t, client, target, "-n=1"), 1) })
	asks, err := l.StartProbeFromPod(t.Context(), client, target, "-keep", "-c=1", "-i=50ms")
	if err != nil {
		t.Fatal(err)
	}
	connected := func(want int) {
		t.Helper()
		eventually(t, settled, fmt.Sprintf("%d sockets to the server", want), func(ctx context.Context) error {
			script := `for pod in /run/netns/*; do nsenter --net="$pod" ss -Hun dst "$0:5353"; done`
			out, err := l.Exec(ctx, client.Node, "/bin/sh", "-c", script, server.IPs[0])
			if n := strings.Count(string(out), "\n"); err == nil && n != want {
				err = fmt.Errorf("there are %d", n)
			}
			return err
		})
	}
	connected(1)
	kubectl(t, "delete", "pod", server.Name)
	connected(0)
	r, err := asks.Stop()
	if err != nil {
		t.Fatal(err)
	}
	// A refusal that was on its way takes the place of the abort. The socket then has no peer.
	told := 0
	for reason, n := range r.Reasons {
		if strings.Contains(reason, syscall.ECONNABORTED.Error()) || strings.Contains(reason, syscall.EDESTADDRREQ.Error()) {
			told += n
		}
	}
	if r.Pods[server.Name] == 0 || told == 0 {
		t.Errorf("%d answers by %v; want failures by %q or %q: %v", r.Requests-r.Failures, r.Pods, syscall.ECONNABORTED, syscall.EDESTADDRREQ, r.Reasons)
	}
}

// front is one way to a Service.
type front struct{ target, addr, port, protocol string }

func newFront(scheme, protocol, addr, port string) front {
	return front{scheme + "://" + net.JoinHostPort(addr, port) + "/", addr, port, protocol}
}

// frontsOf are all ways to a Service from a pod of a node: its cluster IPs, its
// external addresses, and the node's own addresses with its node ports.
func frontsOf(t *testing.T, service, node string) (fronts []front) {
	t.Helper()
	l := cluster(t)
	externalIP(t, service)
	fields := func(path string) []string {
		return strings.Fields(kubectl(t, "get", "service", service, "-o", "jsonpath="+path))
	}
	nodePorts := fields("{.spec.ports[*].nodePort}")
	for i, port := range []struct{ scheme, protocol, number string }{{"http", "tcp", "80"}, {"udp", "udp", "53"}} {
		for _, addr := range append(fields("{.spec.clusterIPs[*]}"), fields("{.status.loadBalancer.ingress[*].ip}")...) {
			fronts = append(fronts, newFront(port.scheme, port.protocol, addr, port.number))
		}
		for _, addr := range []string{l.NodeAddress(node), l.NodeAddress6(node)} {
			fronts = append(fronts, newFront(port.scheme, port.protocol, addr, nodePorts[i]))
		}
	}
	return fronts
}

// asks is how many requests a pod makes to a front.
const asks = 60

// notDirect objects unless all of a pod's requests are answered, by servers that see
// the pod, and its node translated none: its kernel tracks no connection to the front.
func notDirect(t *testing.T, p lab.Pod, f front, servers int) error {
	t.Helper()
	forgetTracked(t, p, f)
	r := podAsks(t, p, f.target, "-n="+strconv.Itoa(asks))
	if err := objection(r, servers); err != nil {
		return err
	}
	if n := tracked(t, p, f); n != 0 {
		return fmt.Errorf("%s: %d of %d connections of %s came to nftables", f.target, n, asks, p.Name)
	}
	for _, client := range r.Clients {
		if !slices.Contains(p.IPs, client) {
			return fmt.Errorf("%s: a server saw %s instead of %s", f.target, client, p.Name)
		}
	}
	return nil
}

// goByNftables waits until the kernel of the pod's node translates each connection
// to each front; all are answered.
func goByNftables(t *testing.T, p lab.Pod, fronts []front, servers int) {
	t.Helper()
	for _, f := range fronts {
		eventually(t, settled, f.target+" of "+p.Name+" by nftables", func(context.Context) error {
			forgetTracked(t, p, f)
			wantAll(t, podAsks(t, p, f.target, "-n="+strconv.Itoa(asks)), servers)
			if n := tracked(t, p, f); n != asks {
				return fmt.Errorf("%d of %d connections", n, asks)
			}
			return nil
		})
	}
}

// conntrack asks the kernel of a pod's node for what the pod sent to a front.
func conntrack(t *testing.T, command string, p lab.Pod, f front) string {
	t.Helper()
	source, family := p.IPs[0], "ipv4"
	if strings.Contains(f.addr, ":") {
		source, family = p.IPs[1], "ipv6"
	}
	cmd, err := cluster(t).Command(t.Context(), p.Node, "conntrack", command, "--family", family, "--proto", f.protocol,
		"--orig-src", source, "--orig-dst", f.addr, "--dport", f.port)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.Output()
	if err != nil && command != "--delete" { // it fails if there is none
		t.Fatal(err)
	}
	return string(out)
}

func tracked(t *testing.T, p lab.Pod, f front) int {
	t.Helper()
	return strings.Count(conntrack(t, "--dump", p, f), "\n")
}

func forgetTracked(t *testing.T, p lab.Pod, f front) {
	t.Helper()
	conntrack(t, "--delete", p, f)
}

// watchFrom lets a pod ask every front, by new connections and by one that it keeps.
func watchFrom(t *testing.T, p lab.Pod, fronts []front) *watched {
	t.Helper()
	w := &watched{}
	for _, f := range fronts {
		for _, keep := range []string{"-keep=false", "-keep"} {
			prober, err := cluster(t).StartProbeFromPod(t.Context(), p, f.target, keep, "-c=1", "-i=100ms", "-timeout=3s")
			if err != nil {
				t.Fatal(err)
			}
			w.names, w.probers = append(w.names, p.Name+" "+keep), append(w.probers, prober)
		}
	}
	return w
}

// wantAccelerated waits until status, the metric of a node and its kernel tell the
// same: what forwards, and how many programs are attached to the pods' cgroup.
func wantAccelerated(t *testing.T, node, engine string, on float64, programs int) {
	t.Helper()
	eventually(t, settled, engine+" on "+node, func(ctx context.Context) error {
		said, err := engineOf(ctx, node)
		if err != nil {
			return err
		}
		value, err := metric(ctx, node, "fairlead_accelerator_on")
		if err != nil {
			return err
		}
		links, err := attached(ctx, node)
		if err != nil {
			return err
		}
		pins, err := pinned(ctx, node)
		if err != nil {
			return err
		}
		if said != engine || value != on || links != programs || pins != (programs > 0) {
			return fmt.Errorf("status says %s, fairlead_accelerator_on is %v, %d programs are attached, pinned: %v", said, value, links, pins)
		}
		return nil
	})
}

// engineOf is what fairlead status says of a node, with what it leaves to nftables
// though it should not.
func engineOf(ctx context.Context, node string) (string, error) {
	out, err := shared.FairleadCommand(ctx, "status", "-o", "json").Output()
	if len(out) == 0 {
		return "", err // its exit code tells of problems
	}
	var status struct {
		Agents []struct{ Node, Engine, Unaccelerated string }
	}
	if err := json.Unmarshal(out, &status); err != nil {
		return "", err
	}
	for _, a := range status.Agents {
		switch {
		case a.Node != node:
		case a.Unaccelerated == "" || a.Unaccelerated == "turned off":
			return a.Engine, nil
		default:
			return a.Engine + ", but: " + a.Unaccelerated, nil
		}
	}
	return "", fmt.Errorf("status says nothing of %s", node)
}

// pinned reports whether a node keeps anything of fairlead in its bpf filesystem.
func pinned(ctx context.Context, node string) (bool, error) {
	out, err := shared.Exec(ctx, node, "find", "/sys/fs/bpf", "-mindepth", "1", "-name", "fairlead")
	return len(out) > 0, err
}

// attached counts the programs that are attached to cgroups of a node's pods, as
// "bpftool link" lists them.
func attached(ctx context.Context, node string) (n int, err error) {
	out, err := shared.Exec(ctx, node, "find", shared.Cgroup(node), "-type", "d", "-printf", "%i\n")
	if err != nil {
		return 0, err
	}
	ids := map[string]bool{}
	for _, id := range strings.Fields(string(out)) {
		ids[id] = true
	}
	all := new(link.Iterator)
	defer all.Close()
	for all.Next() {
		info, err := all.Link.Info()
		if err != nil {
			return 0, err
		}
		if c := info.Cgroup(); c != nil && ids[strconv.FormatUint(c.CgroupId, 10)] {
			n++
		}
	}
	return n, all.Err()
}
