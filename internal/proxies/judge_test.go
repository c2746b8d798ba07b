package proxies

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// factsOf reads Facts: "nftables table ip kube-proxy=7; port 10256; process kube-proxy;
// declared cilium; denied cilium". The number after an object is its text.
func factsOf(t *testing.T, text string) Facts {
	t.Helper()
	f := Facts{
		Objects: map[Object]string{}, Listening: map[uint16]bool{}, Processes: map[string]bool{},
		Declared: map[Name]string{}, Denied: map[Name]bool{},
	}
	objects := map[string]Object{}
	for _, o := range Objects() {
		objects[o.String()] = o
	}
	for _, item := range strings.Split(text, "; ") {
		kind, rest, _ := strings.Cut(item, " ")
		name, print, _ := strings.Cut(item, "=")
		object, known := objects[name]
		switch {
		case text == "":
		case known:
			f.Objects[object] = print
		case kind == "port":
			n, err := strconv.Atoi(rest)
			if err != nil {
				t.Fatal(err)
			}
			f.Listening[uint16(n)] = true
		case kind == "process":
			f.Processes[rest] = true
		case kind == "declared":
			f.Declared[Name(rest)] = "the cluster says so"
		case kind == "denied":
			f.Denied[Name(rest)] = true
		default:
			t.Fatalf("%q is not a fact", item)
		}
	}
	return f
}

func text(found []Found) string {
	var out []string
	for _, f := range found {
		out = append(out, string(f.Certainty)+" "+f.String())
	}
	return strings.Join(out, "; ")
}

// What is found at one look, by a Judge that has seen nothing before.
func TestFirstLook(t *testing.T) {
	tests := []struct{ name, facts, want string }{
		{"nothing", "", ""},
		{"kube-proxy, nftables", "nftables table ip kube-proxy=1; nftables table ip6 kube-proxy=2; port 10256; port 10249",
			"runs kube-proxy (nftables table ip kube-proxy, nftables table ip6 kube-proxy, port 10256 is in use, port 10249 is in use)"},
		{"kube-proxy, iptables", "iptables chain ip nat KUBE-SERVICES=1; port 10256", "runs kube-proxy (iptables chain ip nat KUBE-SERVICES, port 10256 is in use)"},
		{"kube-proxy, older tables", "legacy iptables chain ip nat KUBE-SERVICES=1; port 10256",
			"runs kube-proxy (legacy iptables chain ip nat KUBE-SERVICES, port 10256 is in use)"},
		{"kube-proxy, IPVS", "link kube-ipvs0=3; port 10249", "runs kube-proxy (link kube-ipvs0, port 10249 is in use)"},
		{"kube-proxy that starts", "process kube-proxy", "runs kube-proxy (process kube-proxy)"},
		{"kube-proxy that is to run", "declared kube-proxy", "runs kube-proxy (the cluster says so)"},
		{"kube-proxy in k3s", "iptables chain ip nat KUBE-SERVICES=1; process k3s-server", "runs kube-proxy (iptables chain ip nat KUBE-SERVICES, process k3s-server)"},
		{"kube-proxy in MicroK8s", "iptables chain ip nat KUBE-SERVICES=1; process kubelite", "runs kube-proxy (iptables chain ip nat KUBE-SERVICES, process kubelite)"},
		{"k3s without kube-proxy", "process k3s-server", ""},
		{"what kube-proxy left", "iptables chain ip nat KUBE-SERVICES=1; link kube-ipvs0=1", "left kube-proxy (iptables chain ip nat KUBE-SERVICES, link kube-ipvs0)"},
		{"Cilium that replaces kube-proxy", "declared cilium; link cilium_host=4", "runs cilium (link cilium_host, the cluster says so)"},
		{"Cilium that the cluster does not speak of", "link cilium_host=4", "unknown cilium (link cilium_host)"},
		{"Cilium as a network alone", "denied cilium; link cilium_host=4; process cilium-agent", ""},
		{"Cilium as a network, beside kube-proxy", "denied cilium; link cilium_host=4; nftables table ip kube-proxy=1; port 10256",
			"runs kube-proxy (nftables table ip kube-proxy, port 10256 is in use)"},
		{"Calico, eBPF", "link bpfin.cali=5; link bpfout.cali=6; port 10256", "runs calico (link bpfin.cali, link bpfout.cali, port 10256 is in use)"},
		{"Calico, eBPF, and what kube-proxy left", "link bpfin.cali=5; port 10256; legacy iptables chain ip nat KUBE-SERVICES=1",
			"runs calico (link bpfin.cali, port 10256 is in use); runs kube-proxy (legacy iptables chain ip nat KUBE-SERVICES, port 10256 is in use)"},
		{"Antrea with proxyAll", "route antrea-gw0 169.254.0.253=7; port 10350", "runs antrea (route antrea-gw0 169.254.0.253, port 10350 is in use)"},
		{"Antrea without", "port 10350; process antrea-agent", ""},
		{"OVN-Kubernetes", "link ovn-k8s-mp0=8", "unknown ovn-kubernetes (link ovn-k8s-mp0)"},
		{"OVN-Kubernetes that answers", "link ovn-k8s-mp0=8; port 10256", "runs ovn-kubernetes (link ovn-k8s-mp0, port 10256 is in use)"},
		{"kube-router as a proxy", "link kube-dummy-if=9; port 20244", "runs kube-router (link kube-dummy-if, port 20244 is in use)"},
		{"kube-router as a network alone", "process kube-router; port 20244", ""},
		{"one that is not known", "port 10256", "unknown another (port 10256 is in use)"},
		{"one that is not known, and what kube-proxy left by IPVS", "port 10250; link kube-ipvs0=1", "left kube-proxy (link kube-ipvs0)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var j Judge
			if got := text(j.Look(factsOf(t, tt.facts), time.Now())); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// What a Judge says from one look to the next.
func TestLooks(t *testing.T) {
	type look struct {
		after       time.Duration
		facts, want string // want is the certainty of the one that is found
	}
	const rules, again = "iptables chain ip nat KUBE-SERVICES=1", "iptables chain ip nat KUBE-SERVICES=2"
	tests := []struct {
		name   string
		recall Name
		looks  []look
	}{
		{"it comes, and its port is taken", "", []look{{0, "", ""}, {1, rules, "runs"}, {Grace - 1, rules, "runs"}, {2, rules, "unknown"}}},
		{"it writes its rules again", "", []look{{0, rules, "left"}, {1, rules, "left"}, {1, again, "runs"}, {1, again + "; port 10256", "runs"}}},
		{"it restarts", "", []look{{0, rules + "; port 10256", "runs"}, {Grace - 1, rules, "runs"}, {1, again + "; port 10256", "runs"}}},
		{"it ends, and leaves its rules", "", []look{{0, rules + "; port 10256", "runs"}, {Grace, rules, "left"}, {time.Hour, rules, "left"}}},
		{"it ends, and its rules are removed", "", []look{{0, rules + "; link kube-ipvs0=1; port 10256", "runs"}, {1, rules, "runs"}, {1, "", ""}}},
		{"what it left is removed in parts", "", []look{{0, rules + "; link kube-ipvs0=1", "left"}, {1, rules, "left"}, {1, "", ""}}},
		{"it ran before the agent started", KubeProxy, []look{{0, rules, "runs"}, {Grace, rules, "left"}}},
		{"it was removed before the agent started", KubeProxy, []look{{0, "", ""}, {1, "", ""}}},
		{"a network's agent restarts", "", []look{{0, "link bpfin.cali=1; port 10256", "runs"}, {time.Hour, "link bpfin.cali=1", "unknown"}}},
		{"one that is not known ends", "", []look{{0, "port 10256", "unknown"}, {GraceAnother - 1, "", "unknown"}, {1, "", ""}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var j Judge
			now := time.Now()
			if tt.recall != "" {
				j.Recall(tt.recall, now)
			}
			for i, l := range tt.looks {
				now = now.Add(l.after)
				found := j.Look(factsOf(t, l.facts), now)
				strongest, _ := Strongest(found)
				if string(strongest.Certainty) != l.want {
					t.Errorf("look %d: got %s, want %s", i, text(found), l.want)
				}
			}
		})
	}
}

// Every object has one owner, and the name that its kind asks for.
func TestObjects(t *testing.T) {
	fields := map[Kind]int{Table: 2, Chain: 3, Legacy: 3, Link: 1, Route: 2}
	seen := map[Object]int{}
	for _, o := range Objects() {
		seen[o]++
		if seen[o] > 1 || len(strings.Fields(o.Name)) != fields[o.Kind] {
			t.Errorf("%s: named %d times", o, seen[o])
		}
	}
}
