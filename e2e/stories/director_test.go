package stories

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/probe"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// directs are the chart's values with which agents direct.
var directs = []string{"agent.director=auto"}

// directed is a Service that is passed on directly, and a client with many connections.
type directed struct {
	*lab.Lab
	crowd
}

// openAtOnce is how many connections are open while something happens.
const openAtOnce = 200

// happening is what happens while connections are open and others are opened.
type happening struct {
	name string
	// do has it happen, and returns which connections may end; nil: none.
	do func(d *directed, t *testing.T) (excused func(*call) bool)
	// fails is the part of new requests that may fail; 1: all that the time without an
	// answer allows.
	fails float64
	// away: there is no way to the addresses for as long as the router takes.
	away bool
	// short: "make test" runs it too.
	short bool
}

// A pod that is told to end may be asked for a moment longer: one request of 100 may fail.
var happenings = []happening{
	{name: "the owner gets the exclude label, and loses it", do: (*directed).exclude, short: true},
	{name: "the owner is cordoned, and uncordoned", do: (*directed).cordon},
	{name: "Direct is turned off and on", do: (*directed).offAndOn},
	{name: "the owner says that it shuts down", do: (*directed).shutdown},
	{name: "the owner's agent is killed", do: (*directed).killAgent},
	{name: "agents are upgraded", do: (*directed).upgradeAgents},
	{name: "agents are rolled back", do: (*directed).rollBackAgents},
	{name: "pods say that they are not ready, and are", do: (*directed).flap, fails: 0.01},
	{name: "2 pods, 12 pods, 3 pods", do: (*directed).scale, fails: 0.01},
	{name: "the Deployment is rolled", do: (*directed).roll, fails: 0.01},
	{name: "a node is cut off for a while, and lives", do: (*directed).falseVerdict, fails: 1},
	{name: "a pod's link is cut", do: (*directed).podDies, fails: 1},
	{name: "the owner loses power", do: (*directed).powerLoss, fails: 1},
	{name: "the owner loses power while pods come and go", do: (*directed).powerLossAndScale, fails: 1},
	{name: "the owner loses power while the Deployment is rolled", do: (*directed).powerLossAndRoll, fails: 1},
}

// Pods see the clients of a Service that is directed, and answer them past the owner. 200
// open connections live as long as their pods do, whatever happens to the owner, to agents
// and to other pods. "make e2e WHAT=director" runs all of it.
func TestDirectedConnectionsOutliveTheirOwner(t *testing.T) {
	l := cluster(t)
	all := os.Getenv("FAIRLEAD_E2E_ALL") != ""
	undo(t, func(ctx context.Context) error { return l.ConfigureFairlead(ctx) })
	if err := l.ConfigureFairlead(t.Context(), directs...); err != nil {
		t.Fatal(err)
	}
	applyFile(t, "directed.yaml")
	externalIP(t, "directed")
	vips := strings.Fields(kubectl(t, "get", "service", "directed", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}"))
	if len(vips) != 2 {
		t.Fatalf("addresses %v, want one of each family", vips)
	}
	electable(t)
	forgotten(t, vips...)
	d := &directed{Lab: l, crowd: crowd{host: lab.Client, vips: vips}}
	t.Cleanup(d.close)
	t.Run("pods see the client", d.seesClients)
	if all {
		t.Run("replies go past the owner", d.repliesPastTheOwner)
		t.Run("explain, trace and status tell it", d.told)
		t.Run("datagrams stay with their pods", d.datagrams)
	}
	for _, h := range happenings {
		if all || h.short {
			t.Run(h.name, func(t *testing.T) { d.try(t, h) })
		}
	}
}

// try has something happen while 200 connections are open and others are opened.
func (d *directed) try(t *testing.T, h happening) {
	d.steady(t)
	d.fill(t, openAtOnce)
	others := everyPathOf(t, d.host, demo.Service{ExternalIPs: d.vips}, 3*time.Second)
	d.talk()
	defer d.hush()
	time.Sleep(time.Second) // so long nothing happens
	excused := h.do(d, t)
	time.Sleep(2 * time.Second) // so long what happened is over
	d.hush()
	if excused == nil {
		excused = func(*call) bool { return false }
	}
	d.judge(t, excused)
	for _, r := range others() {
		t.Logf("%s: of %d new connections %d failed %v, the longest time without an answer was %.0f ms", r.Target, r.Requests, r.Failures, r.Reasons, r.Gap)
		// make bench measures the time without an answer: other work on this machine must
		// not fail a story.
		if float64(r.Failures) > h.fails*float64(r.Requests) || r.Gap > 10_000 && !h.away {
			t.Error(objection(r, r.Distinct))
		}
	}
}

const directedReplicas = 6

// steady waits until all pods are there again, each address answers with all, and they
// see the client.
func (d *directed) steady(t *testing.T) {
	t.Helper()
	candidates(t) // connections are open, so no agent may be restarted for the next row
	d.scaleTo(t, directedReplicas)
	for _, vip := range d.vips {
		answersTo(t, d.host, demo.URL(vip, 80), directedReplicas)
	}
	d.become(t, snapshot.Direct)
}

// become waits until new connections are forwarded in this way.
func (d *directed) become(t *testing.T, way snapshot.Forwarding) {
	t.Helper()
	for _, vip := range d.vips {
		eventually(t, settled, vip+" by "+string(way), func(ctx context.Context) error {
			r, err := d.Probe(ctx, d.host, demo.URL(vip, 80), "-n=60", "-c=4", "-timeout=1s")
			if err != nil || r.Failures > 0 {
				return errors.Join(err, objection(r, r.Distinct))
			}
			for source := range r.Sources {
				if hidden := d.NodeOf(source) != source; hidden == (way == snapshot.Direct) {
					return fmt.Errorf("pods see %v", r.Sources)
				}
			}
			return nil
		})
	}
}

func (d *directed) owner(t *testing.T) string {
	t.Helper()
	return announcer(t, d.vips[0])
}

// moved waits until the first address is at node, or is not.
func (d *directed) moved(t *testing.T, node string, there bool) {
	t.Helper()
	began := time.Now()
	eventually(t, settled, d.vips[0]+" to move", func(ctx context.Context) error {
		a, err := demo.FindAnnouncer(ctx, d.Lab, d.vips[0])
		if err == nil && (a.Node == node) != there {
			err = fmt.Errorf("it is at %s", a.Node)
		}
		return err
	})
	t.Logf("%s at %s: %v, after %s", d.vips[0], node, there, time.Since(began).Round(time.Millisecond))
}

// clients are the addresses that hosts outside of the cluster have, IPv4 first.
var clients = map[string][]string{lab.Client: {"198.18.0.100", "fd98:18::64"}, lab.Ext: {"198.18.1.100", "fd98:18:1::64"}}

func (d *directed) seesClients(t *testing.T) {
	d.steady(t)
	for host, own := range clients {
		for _, vip := range d.vips {
			r := hostAsks(t, host, demo.URL(vip, 80), "-n=120", "-c=4")
			wantAll(t, r, directedReplicas)
			if want := own[netip.MustParseAddr(vip).BitLen()/128]; !slices.Equal(r.Clients, []string{want}) {
				t.Errorf("%s asks %s: pods see %v, want %s alone", host, vip, r.Sources, want)
			}
		}
	}
}

// repliesPastTheOwner downloads from a pod on another node than the owner.
func (d *directed) repliesPastTheOwner(t *testing.T) {
	d.steady(t)
	d.fill(t, openAtOnce)
	for _, vip := range d.vips {
		owner, err := demo.FindAnnouncer(t.Context(), d.Lab, vip)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(d.calls, func(c *call) bool { return c.vip == vip && c.node != owner.Node })
		if i < 0 {
			t.Fatalf("no connection is with a pod on another node than %s", owner.Node)
		}
		before, err := d.LinkBytes(t.Context(), owner.Node, owner.Link)
		if err != nil {
			t.Fatal(err)
		}
		const size = 64 << 20
		body, err := d.calls[i].get(fmt.Sprintf("/bytes?n=%d", size))
		if err != nil || len(body) != size {
			t.Fatalf("%s: %d bytes, %v", d.calls[i], len(body), err)
		}
		now, err := d.LinkBytes(t.Context(), owner.Node, owner.Link)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.3f bytes passed the owner for each byte", vip, float64(now-before)/size)
		if now-before > size/5 {
			t.Errorf("%s: of %d bytes %d passed the owner %s", vip, size, now-before, owner.Node)
		}
	}
}

// told: the commands say how connections are passed on, and name the node that has each.
func (d *directed) told(t *testing.T) {
	d.steady(t)
	for command, wants := range map[string][]string{
		"explain default/directed": {"✔ forwarding Direct, as Announcement directed asks", ", takes what others pass on by eth0"},
		"status":                   {"FORWARDING", " podCIDRs Direct "},
		"trace --from " + clients[lab.Client][0] + " --to " + d.vips[0] + ":80": {"passes it on unchanged", "source kept"},
	} {
		out, code := fairlead(t, strings.Fields(command)...)
		line := strings.Join(strings.Fields(out), " ") // columns are as wide as they have to be
		for _, want := range wants {
			if code != 0 || !strings.Contains(line, want) {
				t.Errorf("fairlead %s: exit %d, want %q in\n%s", command, code, want, out)
			}
		}
	}
	d.close()
	d.calls = nil
	d.fill(t, openAtOnce) // all by the tables of now
	for i := 0; i < len(d.calls); i += 25 {
		c := d.calls[i]
		out, code := fairlead(t, "trace", "--from", c.from().String(), "--to", net.JoinHostPort(c.vip, "80"))
		want := "passes it on unchanged to " + c.node
		if announcer(t, c.vip) == c.node {
			want = "serves it itself"
		}
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: trace: exit %d, want %q in\n%s", c, code, want, out)
		}
	}
}

func (d *directed) exclude(t *testing.T) func(*call) bool {
	return d.leaves(t, []string{"label", "node", "", snapshot.ExcludeLabel + "=true"}, []string{"label", "node", "", snapshot.ExcludeLabel + "-"}, talkOn)
}

// shutdown has the owner's Node say what a kubelet says when systemd tells it that the
// machine shuts down. The kubelet takes it back some seconds later.
func (d *directed) shutdown(t *testing.T) func(*call) bool {
	owner := d.owner(t)
	kubectl(t, "patch", "node", owner, "--subresource=status", "--type=strategic", "--patch",
		`{"status":{"conditions":[{"type":"Ready","status":"False","reason":"KubeletNotReady","message":"node is shutting down"}]}}`)
	d.moved(t, owner, false)
	d.moved(t, owner, true)
	return nil
}

func (d *directed) cordon(t *testing.T) func(*call) bool {
	return d.leaves(t, []string{"cordon", ""}, []string{"uncordon", ""}, talkOn)
}

// talkOn lets connections go on by way of another owner.
func talkOn() { time.Sleep(2 * time.Second) }

// leaves has the addresses leave their owner and come back, by commands of kubectl in which
// the node's name is empty. meanwhile runs while they are away.
func (d *directed) leaves(t *testing.T, away, back []string, meanwhile func()) func(*call) bool {
	owner := d.owner(t)
	named := func(args []string) []string {
		args = slices.Clone(args)
		args[slices.Index(args, "")] = owner
		return args
	}
	undo(t, func(ctx context.Context) error {
		_, err := d.Kubectl(ctx, named(back)...)
		return err
	})
	kubectl(t, named(away)...)
	d.moved(t, owner, false)
	meanwhile()
	kubectl(t, named(back)...)
	d.moved(t, owner, true)
	return nil
}

// offAndOn: what is opened in between lives on as well.
func (d *directed) offAndOn(t *testing.T) func(*call) bool {
	on := []string{"annotate", "service", "directed", snapshot.AnnotationForwarding + "-"}
	undo(t, func(ctx context.Context) error {
		_, err := d.Kubectl(ctx, on...)
		return err
	})
	kubectl(t, "annotate", "service", "directed", snapshot.AnnotationForwarding+"="+string(snapshot.Masquerade))
	d.become(t, snapshot.Masquerade)
	var between []*call
	for _, vip := range d.vips {
		between = append(between, dial(t, d.host, vip, 20, true)...)
	}
	kubectl(t, on...)
	d.become(t, snapshot.Direct)
	for _, c := range between {
		if _, err := c.answer(); err != nil {
			t.Errorf("opened while Direct was off: %s: %v", c, err)
		}
		_ = c.Close()
	}
	return nil
}

func (d *directed) killAgent(t *testing.T) func(*call) bool {
	d.killAgentOf(t, d.owner(t))
	return nil
}

func (d *directed) killAgentOf(t *testing.T, node string) {
	t.Helper()
	p, began := agentOf(t, node), metricNow(t, node, startTime)
	if err := d.KillPod(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	nextAgent(t, node, began)
}

func (d *directed) upgradeAgents(t *testing.T) func(*call) bool {
	if err := d.ConfigureFairlead(t.Context(), append([]string{"agent.podAnnotations.rolled=yes"}, directs...)...); err != nil {
		t.Fatal(err)
	}
	return nil
}

// rollBackAgents has Helm roll agents back to how they were before the upgrade.
func (d *directed) rollBackAgents(t *testing.T) func(*call) bool {
	if err := d.ConfigureFairlead(t.Context(), directs...); err != nil {
		t.Fatal(err)
	}
	return nil
}

// flap has half of the pods say that they are not ready, three times.
func (d *directed) flap(t *testing.T) func(*call) bool {
	half := pods(t, "default", "app=directed", directedReplicas)[:directedReplicas/2]
	for range 3 {
		for i, ok := range []string{"false", "true"} {
			for _, p := range half {
				if _, err := get(t.Context(), d.Lab, p.Node, "-post", fmt.Sprintf("http://%s/ready?ok=%s", net.JoinHostPort(p.IPs[0], "8080"), ok)); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, settled, "the Deployment to know it", func(context.Context) error {
				ready := kubectl(t, "get", "deployment", "directed", "-o", "jsonpath={.status.readyReplicas}")
				if want := fmt.Sprint(directedReplicas * (1 + i) / 2); ready != want {
					return fmt.Errorf("%s pods are ready, not %s", ready, want)
				}
				return nil
			})
		}
	}
	return nil
}

// falseVerdict cuts a node with pods from the others until they hold it for gone. Its
// connections wait, and go on when the switch passes frames on again.
func (d *directed) falseVerdict(t *testing.T) func(*call) bool {
	owner := d.owner(t)
	i := slices.IndexFunc(d.calls, func(c *call) bool { return c.node != owner })
	if i < 0 {
		t.Fatalf("all connections are with pods on %s", owner)
	}
	node := d.calls[i].node
	undo(t, func(ctx context.Context) error { return d.Cut(ctx) })
	var rules []string
	for _, other := range d.Nodes() {
		if other != node {
			rules = append(rules, from(node)+" "+to(other), from(other)+" "+to(node))
		}
	}
	if err := d.Cut(t.Context(), rules...); err != nil {
		t.Fatal(err)
	}
	eventually(t, settled, owner+" to hold "+node+" for gone", func(ctx context.Context) error {
		n, err := metric(ctx, owner, "fairlead_quarantined_endpoints")
		if err == nil && n == 0 {
			err = errors.New("it does not")
		}
		return err
	})
	time.Sleep(3 * time.Second) // clients send again in vain
	if err := d.Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	return nil
}

func (d *directed) powerLossAndRoll(t *testing.T) func(*call) bool {
	owner := d.owner(t)
	powerOnAtTheEnd(t, owner)
	kubectl(t, "rollout", "restart", "deployment/directed")
	powerOff(t, owner)
	d.moved(t, owner, false)
	old := map[string]bool{}
	for _, c := range d.calls {
		old[c.pod] = true
	}
	time.Sleep(10 * time.Second) // the update goes on without the node
	found, err := d.Pods(t.Context(), "default", "app=directed")
	if err != nil {
		t.Fatal(err)
	}
	var stay []string
	for _, p := range found {
		if p.Node != owner && p.Ready {
			stay = append(stay, p.Name)
		}
	}
	return func(c *call) bool { return c.node == owner || old[c.pod] && !slices.Contains(stay, c.pod) }
}

// flow is a client's socket that sends datagrams to a VIP, and the pod that answers them.
type flow struct {
	net.Conn
	pod string
}

// ask returns who answers a datagram. One that is lost is sent again.
func (f *flow) ask() (a probe.Answer, err error) {
	b := make([]byte, 2048)
	for range 20 {
		if _, err = f.Write([]byte("x")); err == nil {
			_ = f.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
			var n int
			if n, err = f.Read(b); err == nil {
				return a, json.Unmarshal(b[:n], &a)
			}
		}
	}
	return a, err
}

// datagrams: a flow of UDP shows the client, and stays with its pod when the address moves
// and comes back, and when pods come.
func (d *directed) datagrams(t *testing.T) {
	d.steady(t)
	var flows []*flow
	for _, vip := range d.vips {
		if err := d.AtClient(func() error {
			for range 30 {
				c, err := net.Dial("udp", net.JoinHostPort(vip, "53"))
				if err != nil {
					return err
				}
				t.Cleanup(func() { c.Close() })
				flows = append(flows, &flow{Conn: c})
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string) {
		t.Helper()
		lost := 0
		for _, f := range flows {
			a, err := f.ask()
			if own := netip.MustParseAddrPort(f.LocalAddr().String()).Addr().String(); err != nil || a.Client != own || f.pod != "" && a.Pod != f.pod {
				lost++
				t.Logf("%s: %s: %+v instead of %s, %v", when, f.LocalAddr(), a, f.pod, err)
			}
			f.pod = a.Pod
		}
		if lost > 0 {
			t.Errorf("%s: %d of %d flows", when, lost, len(flows))
		}
	}
	check("first")
	d.leaves(t, []string{"label", "node", "", snapshot.ExcludeLabel + "=true"}, []string{"label", "node", "", snapshot.ExcludeLabel + "-"}, func() { check("at another owner") })
	check("back at the owner")
	d.scaleTo(t, 2*directedReplicas)
	check("with more pods")
}

func (d *directed) scaleTo(t *testing.T, replicas int) {
	t.Helper()
	kubectl(t, "scale", "deployment", "directed", fmt.Sprintf("--replicas=%d", replicas))
	pods(t, "default", "app=directed", replicas)
}

func (d *directed) scale(t *testing.T) func(*call) bool {
	d.scaleTo(t, 2)
	d.hush()
	d.fill(t, openAtOnce)
	d.talk()
	d.scaleTo(t, 12)
	time.Sleep(2 * time.Second) // they talk with twelve pods
	d.scaleTo(t, 3)
	return d.ended(t)
}

func (d *directed) roll(t *testing.T) func(*call) bool {
	kubectl(t, "rollout", "restart", "deployment/directed")
	kubectl(t, "rollout", "status", "deployment/directed", "--timeout=5m")
	return d.ended(t)
}

// ended are the connections with pods that were told to end. It waits until those are gone.
func (d *directed) ended(t *testing.T) func(*call) bool {
	t.Helper()
	var stay []string
	eventually(t, settled, "the pods that end to be gone", func(ctx context.Context) error {
		found, err := d.Pods(ctx, "default", "app=directed")
		if err != nil {
			return err
		}
		stay = nil
		for _, p := range found {
			stay = append(stay, p.Name)
		}
		all := strings.Fields(kubectl(t, "get", "pods", "-l", "app=directed", "-o", "jsonpath={.items[*].metadata.name}"))
		if len(all) != len(stay) {
			return fmt.Errorf("%d end", len(all)-len(stay))
		}
		return nil
	})
	return func(c *call) bool { return !slices.Contains(stay, c.pod) }
}

// podDies cuts the link of a pod, so that it says no word more. None of its clients has sent a
// segment before that is not answered. If the pod has a route of its own, that goes too, and
// its clients are told with their next segment. At a bridge no route goes: nothing tells them,
// and no other pod answers them either.
func (d *directed) podDies(t *testing.T) func(*call) bool {
	d.hush()
	victim := d.calls[0]
	all := pods(t, "default", "app=directed", directedReplicas)
	p := all[slices.IndexFunc(all, func(p lab.Pod) bool { return p.Name == victim.pod })]
	link, err := d.PodLink(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	_, way, _ := strings.Cut(string(d.exec(t, p.Node, "ip", "route", "get", p.IPs[0])), " dev ")
	way, _, _ = strings.Cut(way, " ")
	d.exec(t, p.Node, "ip", "link", "delete", "dev", link)
	undo(t, func(ctx context.Context) error {
		_, err := d.Kubectl(ctx, "delete", "pod", p.Name, "--grace-period=1")
		return err
	})
	d.talk()
	time.Sleep(2 * time.Second) // each talks
	d.hush()
	if way != link {
		t.Logf("%s was at the bridge %s", p.Name, way)
		d.abandon(t, p)
		return nil
	}
	for _, c := range d.calls {
		if c.pod == p.Name && (c.err == nil || c.last > 5*time.Second) {
			t.Errorf("%s, which is dead: %v after %s", c, c.err, c.last)
		}
	}
	return func(c *call) bool { return c.pod == p.Name }
}

// abandon closes the connections with a pod, which are to have had no answer from any.
func (d *directed) abandon(t *testing.T, p lab.Pod) {
	d.calls = slices.DeleteFunc(d.calls, func(c *call) bool {
		if c.pod != p.Name {
			return false
		}
		if !c.hung() {
			t.Errorf("%s, which is dead: %v after %s", c, c.err, c.last)
		}
		_ = c.Close()
		return true
	})
}

func (d *directed) exec(t *testing.T, node string, command ...string) []byte {
	t.Helper()
	out, err := d.Exec(t.Context(), node, command...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (d *directed) powerLoss(t *testing.T) func(*call) bool {
	owner := d.owner(t)
	powerOnAtTheEnd(t, owner)
	powerOff(t, owner)
	d.moved(t, owner, false)
	return func(c *call) bool { return c.node == owner }
}

func (d *directed) powerLossAndScale(t *testing.T) func(*call) bool {
	owner := d.owner(t)
	powerOnAtTheEnd(t, owner)
	kubectl(t, "scale", "deployment", "directed", "--replicas=12")
	powerOff(t, owner)
	d.moved(t, owner, false)
	eventually(t, settled, "new pods on the other nodes", func(ctx context.Context) error {
		found, err := d.Pods(ctx, "default", "app=directed")
		if err != nil {
			return err
		}
		for _, p := range found {
			if p.Node != owner && !p.Ready {
				return fmt.Errorf("%s on %s is not ready", p.Name, p.Node)
			}
		}
		return nil
	})
	kubectl(t, "scale", "deployment", "directed", "--replicas=3")
	time.Sleep(5 * time.Second) // the pods that end have served for 3 s more
	stay, err := d.Pods(t.Context(), "default", "app=directed")
	if err != nil {
		t.Fatal(err)
	}
	return func(c *call) bool {
		return c.node == owner || !slices.ContainsFunc(stay, func(p lab.Pod) bool { return p.Name == c.pod })
	}
}
