package stories

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/probe"
)

// world is what testdata/services.yaml has in a cluster.
type world struct {
	web     []lab.Pod          // three, none of them on node3
	clients map[string]lab.Pod // by node
	nodes   []string           // all three
	without string             // the node without a web pod
}

func (w world) client() lab.Pod { return w.clients[w.without] }

// What each Service promises is shown on the manifests as people write them.
func TestServicesThatPeopleWrite(t *testing.T) {
	l := cluster(t)
	electable(t)
	applyFile(t, "pods.yaml")
	applyFile(t, "services.yaml")
	w := world{web: pods(t, "default", "app=web", 3), clients: map[string]lab.Pod{}, nodes: l.Nodes(), without: "node3"}
	for _, p := range pods(t, "default", "app=client", len(w.nodes)) {
		w.clients[p.Node] = p
	}
	pods(t, "default", "app=dashboard", 1)
	pods(t, "monitoring", "app in (prometheus-server,grafana)", 2)
	pods(t, "kube-system", "k8s-app=kube-state-metrics", 2)
	for _, story := range []struct {
		name string
		tell func(*testing.T, world)
	}{
		{"a name and an address reach all pods, only from inside", onlyFromInside},
		{"a sticky client stays on its pod for 10800 s", stickyForHours},
		{"a client that is sticky for 5 s lands elsewhere after silence", stickyForSeconds},
		{"a targetPort by name finds the number in the pod", targetPortByName},
		{"two ports reach two container ports", twoPorts},
		{"a node port answers on every node, pod there or not", nodePortEverywhere},
		{"with policy Local only nodes with a pod answer, and it sees the client", localPolicy},
		{"port 8088 outside is 80 in the pod", otherPortOutside},
		{"one address has a dashboard on 443 and on 80", dashboard},
		{"Prometheus and Grafana answer on node ports 30003 and 30004", monitoring},
		{"a node port without endpoints refuses at once", refusedAtOnce},
		{"a headless Service is left alone, DNS gives its pods", headless},
		{"an ExternalName is a name only", externalName},
		{"a pod that is not ready gets no new connection, one that is again does", readiness},
	} {
		t.Run(story.name, func(t *testing.T) { story.tell(t, w) })
	}
}

func name(service string) string { return "http://" + service + ".default.svc.cluster.local" }

func onlyFromInside(t *testing.T, w world) {
	ip := kubectl(t, "get", "service", "myweb", "-o", "jsonpath={.spec.clusterIP}")
	for _, p := range w.clients {
		wantAll(t, podAsks(t, p, name("myweb")+"/", "-n=60"), 3)
		wantAll(t, podAsks(t, p, "http://"+ip+"/", "-n=60"), 3)
	}
	for _, outside := range []string{lab.Client, lab.Ext} {
		r := hostAsks(t, outside, "http://"+ip+"/", "-n=2", "-timeout=1s")
		if r.Failures != r.Requests {
			t.Errorf("%s reached the ClusterIP: %+v", outside, r)
		}
	}
	r := podAsks(t, w.client(), name("myweb")+"/", "-n=300")
	for _, p := range w.web {
		if share := r.Pods[p.Name]; share < 60 || share > 140 {
			t.Errorf("%s got %d of %d requests, want about a third", p.Name, share, r.Requests)
		}
	}
}

func stickyForHours(t *testing.T, w world) {
	seconds := kubectl(t, "get", "service", "myweb-sticky", "-o", "jsonpath={.spec.sessionAffinityConfig.clientIP.timeoutSeconds}")
	if seconds != "10800" {
		t.Errorf("the default is %s s", seconds)
	}
	for node, p := range w.clients {
		wantAll(t, podAsks(t, p, name("myweb-sticky")+"/", "-n=40", "-c=1"), 1)
		rules := ruleset(t, node, "ip")
		if !strings.Contains(rules, "timeout 3h") {
			t.Errorf("nothing on %s lasts 3 h:\n%s", node, rules)
		}
	}
}

func stickyForSeconds(t *testing.T, w world) {
	target := name("myweb-sticky-5s") + "/"
	// One after another: two first connections at the same moment may part.
	first := podAsks(t, w.client(), target, "-n=5", "-c=1")
	wantAll(t, first, 1)
	// With each connection the 5 s begin again.
	r := podAsks(t, w.client(), target, "-n=8", "-c=1", "-i=1s")
	wantAll(t, r, 1)
	if !maps.EqualFunc(first.Pods, r.Pods, func(a, b int) bool { return true }) {
		t.Errorf("moved to another pod without silence: %v, then %v", first.Pods, r.Pods)
	}
	landed := map[string]string{} // by node of the client
	ask := func() (elsewhere bool) {
		for node, p := range w.clients {
			for pod := range podAsks(t, p, target, "-n=1").Pods {
				elsewhere = elsewhere || landed[node] != "" && landed[node] != pod
				landed[node] = pod
			}
		}
		return elsewhere
	}
	ask()
	for range 5 { // that nobody moves has a chance of 1 in 27 each time
		time.Sleep(6 * time.Second) // the silence
		if ask() {
			return
		}
	}
	t.Errorf("no client landed elsewhere after silence: %v", landed)
}

func targetPortByName(t *testing.T, w world) {
	r := podAsks(t, w.client(), name("myweb-named")+"/", "-n=60")
	wantAll(t, r, 3)
	wantPort(t, r, "8080")
}

func twoPorts(t *testing.T, w world) {
	for port, inside := range map[string]string{"80": "8080", "443": "8443"} {
		r := podAsks(t, w.client(), name("myweb-multi")+":"+port+"/", "-n=60")
		wantAll(t, r, 3)
		wantPort(t, r, inside)
	}
}

func wantPort(t *testing.T, r probe.Report, port string) {
	t.Helper()
	if !slices.Equal(r.Ports, []string{port}) {
		t.Errorf("%s: the pods answered on port %v, want %s", r.Target, r.Ports, port)
	}
}

func nodePortEverywhere(t *testing.T, w world) {
	for _, node := range w.nodes {
		answersTo(t, lab.Client, nodePort(t, node, 30123), 3)
		wantAll(t, hostAsks(t, lab.Client, nodePort(t, node, 30123), "-n=60"), 3)
		wantAll(t, hostAsks(t, lab.Ext, nodePort(t, node, 30123), "-n=60"), 3)
	}
}

func nodePort(t *testing.T, node string, port int) string {
	return fmt.Sprintf("http://%s:%d/", cluster(t).NodeAddress(node), port)
}

func localPolicy(t *testing.T, w world) {
	vip := "http://" + externalIP(t, "nginx-local") + "/"
	port := kubectl(t, "get", "service", "nginx-local", "-o", "jsonpath={.spec.ports[0].nodePort}")
	for host, own := range map[string]string{lab.Client: "198.18.0.100", lab.Ext: "198.18.1.100"} {
		eventually(t, settled, vip, func(ctx context.Context) error {
			r, err := cluster(t).Probe(ctx, host, vip, "-n=30", "-timeout=1s")
			if err == nil && r.Failures > 0 {
				err = fmt.Errorf("%d of %d requests failed %v", r.Failures, r.Requests, r.Reasons)
			}
			return err
		})
		wantClient(t, hostAsks(t, host, vip, "-n=60"), own)
		for _, node := range w.nodes {
			target := "http://" + cluster(t).NodeAddress(node) + ":" + port + "/"
			if node == w.without {
				wantNone(t, hostAsks(t, host, target, "-n=4", "-c=4", "-timeout=1s"), "timeout")
				continue
			}
			r := hostAsks(t, host, target, "-n=60")
			wantClient(t, r, own)
			if !slices.Equal(r.Nodes, []string{node}) {
				t.Errorf("%s was answered by pods on %v", target, r.Nodes)
			}
		}
	}
	// From inside, every pod is as good as any.
	wantAll(t, podAsks(t, w.client(), vip, "-n=60"), 3)
}

func wantClient(t *testing.T, r probe.Report, address string) {
	t.Helper()
	if r.Failures > 0 || !slices.Equal(r.Clients, []string{address}) {
		t.Errorf("%s: %d of %d requests failed %v, the pods saw %v, want %s", r.Target, r.Failures, r.Requests, r.Reasons, r.Clients, address)
	}
}

func otherPortOutside(t *testing.T, w world) {
	ip := externalIP(t, "cluster-lb")
	for _, host := range []string{lab.Client, lab.Ext} {
		answersTo(t, host, "http://"+ip+":8088/", 3)
		r := hostAsks(t, host, "http://"+ip+":8088/", "-n=60")
		wantAll(t, r, 3)
		wantPort(t, r, "80")
		wantNone(t, hostAsks(t, host, "http://"+ip+":80/", "-n=4"), "connection refused")
	}
}

func dashboard(t *testing.T, w world) {
	ip := externalIP(t, "dashboard-lb")
	for _, port := range []string{"443", "80"} {
		answersTo(t, lab.Client, "http://"+ip+":"+port+"/", 1)
		r := hostAsks(t, lab.Ext, "http://"+ip+":"+port+"/", "-n=20")
		wantAll(t, r, 1)
		wantPort(t, r, port)
	}
}

func monitoring(t *testing.T, w world) {
	for _, s := range []struct {
		service, selector string
		nodePort          int
		port, inside      string
	}{{"prometheus-service", "prometheus-server", 30003, "8080", "9090"}, {"grafana", "grafana", 30004, "3000", "3000"}} {
		for _, node := range w.nodes {
			answersTo(t, lab.Client, nodePort(t, node, s.nodePort), 1)
			r := hostAsks(t, lab.Client, nodePort(t, node, s.nodePort), "-n=20")
			wantAll(t, r, 1)
			wantPort(t, r, s.inside)
		}
		wantAll(t, podAsks(t, w.client(), "http://"+s.service+".monitoring.svc.cluster.local:"+s.port+"/", "-n=20"), 1)
		// What Prometheus reads is as it was written, and leads it to the pod.
		read := kubectl(t, "get", "service", s.service, "-n", "monitoring", "-o", `jsonpath={.metadata.annotations.prometheus\.io/scrape} {.metadata.annotations.prometheus\.io/port}`)
		if read != "true "+s.inside {
			t.Errorf("the annotations of %s are %q", s.service, read)
		}
	}
}

func refusedAtOnce(t *testing.T, w world) {
	for _, node := range w.nodes {
		began := time.Now()
		wantNone(t, hostAsks(t, lab.Client, nodePort(t, node, 31672), "-n=20", "-c=1"), "connection refused")
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("20 refusals by %s took %s", node, took)
		}
	}
}

// localPods is the set by which a node knows its pods. Those outside of its podCIDRs, as
// Calico's are, have their addresses there, whatever Service they are in.
var localPods = regexp.MustCompile(`(?s)set local-pods \{.*?\n\t\}`)

func headless(t *testing.T, w world) {
	var ips []string
	for _, p := range pods(t, "kube-system", "k8s-app=kube-state-metrics", 2) {
		ips = append(ips, p.IPs[0])
	}
	slices.Sort(ips)
	host := "kube-state-metrics.kube-system.svc.cluster.local"
	if got := podLooksUp(t, w.client(), host); !slices.Equal(got.Addresses, ips) {
		t.Errorf("%s is %v, want its pods %v", host, got.Addresses, ips)
	}
	for _, port := range []string{"8080", "8081"} {
		r := podAsks(t, w.client(), "http://"+host+":"+port+"/", "-n=20")
		wantClient(t, r, w.client().IPs[0])
		wantPort(t, r, port)
	}
	for _, node := range w.nodes {
		engine := localPods.ReplaceAllString(ruleset(t, node, "ip"), "")
		for _, ip := range ips {
			if strings.Contains(engine, ip) {
				t.Errorf("the engine of %s has %s", node, ip)
			}
		}
	}
}

func externalName(t *testing.T, w world) {
	got := podLooksUp(t, w.client(), "outside.default.svc.cluster.local")
	if got.Canonical != "db.example.com." {
		t.Errorf("outside is %+v, want db.example.com.", got)
	}
	if ip := kubectl(t, "get", "service", "outside", "-o", "jsonpath={.spec.clusterIP}"); ip != "" {
		t.Errorf("an ExternalName got the address %s", ip)
	}
}

func readiness(t *testing.T, w world) {
	l := cluster(t)
	target := nodePort(t, w.without, 30123)
	all, err := l.StartProbe(t.Context(), lab.Client, target, "-i=20ms")
	if err != nil {
		t.Fatal(err)
	}
	sick := w.web[0]
	set := func(ok bool) {
		if _, err := get(t.Context(), l, sick.Node, "-post", fmt.Sprintf("http://%s:8080/ready?ok=%v", sick.IPs[0], ok)); err != nil {
			t.Fatal(err)
		}
	}
	set(false)
	answersTo(t, lab.Client, target, 2)
	for _, ask := range []func() probe.Report{
		func() probe.Report { return hostAsks(t, lab.Client, target, "-n=100") },
		func() probe.Report { return podAsks(t, w.client(), name("myweb")+"/", "-n=100") },
		func() probe.Report { return podAsks(t, w.client(), name("myweb-multi")+":443/", "-n=100") },
	} {
		// Each of the Services has EndpointSlices of its own. The cluster writes one
		// after the other.
		eventually(t, settled, "the pod that is not ready out of a Service", func(context.Context) error { return objection(ask(), 2) })
		r := ask()
		wantAll(t, r, 2)
		if r.Pods[sick.Name] > 0 {
			t.Errorf("%s: the pod that is not ready got new connections: %v", r.Target, r.Pods)
		}
	}
	set(true)
	answersTo(t, lab.Client, target, 3)
	r, err := all.Stop()
	if err != nil {
		t.Fatal(err)
	}
	wantAll(t, r, 3)
	t.Logf("%d requests meanwhile, none failed", r.Requests)
}
