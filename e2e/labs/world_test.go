package labs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// card is a network card of a machine: in a network, with an address and its prefix
// length.
type card struct{ network, address string }

// machine is what a lab asks for.
type machine struct {
	name    string
	cards   []card
	files   map[string]string // that are there before anything runs
	runs    []string          // shell texts, in order
	setting map[string]string // what its scripts are told
}

// node tells whether Kubernetes would run on it.
func (m machine) node() bool { return m.setting["NODE"] != "" && strings.HasPrefix(m.name, "node") }

// world is a lab that is wired.
type world struct {
	t        *testing.T
	root     string // the checkout
	hosts    map[string]*host
	machines []machine
}

func newWorld(t *testing.T, root string, machines []machine) *world {
	t.Helper()
	w := &world{t: t, root: root, hosts: map[string]*host{}, machines: machines}
	for _, m := range machines {
		w.hosts[m.name] = newHost(t, m.name, root)
	}
	return w
}

// switches joins machines by a switch for each network, as a hypervisor does.
func (w *world) switches() {
	w.t.Helper()
	s := newHost(w.t, "switch", w.root)
	made := map[string]bool{}
	for _, m := range w.machines {
		for i, c := range m.cards {
			if !made[c.network] {
				s.ip("link add "+c.network+" type bridge stp_state 0 forward_delay 0 mcast_snooping 0", "link set "+c.network+" up")
				made[c.network] = true
			}
			port := fmt.Sprintf("%s-%d", m.name, i+1)
			h := w.hosts[m.name]
			h.ip(fmt.Sprintf("link add eth%d type veth peer name %s netns %s", i+1, port, s.netns),
				fmt.Sprintf("addr add %s dev eth%d", c.address, i+1), fmt.Sprintf("link set eth%d up", i+1))
			s.ip("link set " + port + " master " + c.network + " up")
		}
	}
}

// fabric joins machines as a cloud does: there is no layer 2, only a router that
// answers every ARP request itself and delivers to the addresses that it gave out,
// and to what routes say, whoever the frame was for.
func (w *world) fabric(routes map[string]string) *host {
	w.t.Helper()
	f := newHost(w.t, "fabric", w.root)
	w.sysctl(f, "net.ipv4.ip_forward=1", "net.ipv4.fib_multipath_hash_policy=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
	for _, m := range w.machines {
		w.attach(f, m.name, m.cards[0].address)
	}
	for cidr, via := range routes {
		f.ip("route add " + cidr + " via " + via)
	}
	return f
}

// attach joins one machine to a fabric. Its gateway is the first address of the
// subnet, which is the fabric's on every link.
func (w *world) attach(f *host, name, address string) {
	w.t.Helper()
	bare, _, _ := strings.Cut(address, "/")
	gateway := bare[:strings.LastIndex(bare, ".")+1] + "1"
	f.ip("link add "+name+" type veth peer name eth0 netns "+w.hosts[name].netns,
		"addr add "+gateway+"/32 dev "+name, "link set "+name+" up", "route add "+bare+"/32 dev "+name)
	w.sysctl(f, "net.ipv4.conf."+name+".proxy_arp=1", "net.ipv4.neigh."+name+".proxy_delay=0")
	w.hosts[name].ip("addr add "+address+" dev eth0", "link set eth0 up", "route add default via "+gateway)
}

func (w *world) sysctl(h *host, settings ...string) {
	w.t.Helper()
	_, err := h.run(nil, append([]string{"sysctl", "-qw"}, settings...)...)
	must(w.t, err)
}

// cannotRun are the scripts that need a package mirror, an image or a kubelet.
var cannotRun = map[string]bool{"kubernetes.sh": true, "control-plane.sh": true, "join.sh": true, "fairlead.sh": true}

// later are those that run once there is a cluster.
var later = map[string]bool{"cluster.sh": true, "client.sh": true}

// provision runs on every machine what the lab would, twice: nothing must change the
// second time, and nothing fail.
func (w *world) provision() {
	w.t.Helper()
	var ran []string
	for round := range 2 {
		for _, m := range w.machines {
			h := w.hosts[m.name]
			for path, content := range m.files {
				h.write(path, content, "0755")
			}
			for _, text := range m.runs {
				script := filepath.Base(text)
				if cannotRun[script] || later[script] {
					continue
				}
				out, err := h.run(nil, "sh", "-c", text)
				must(w.t, err)
				if round == 0 && strings.HasSuffix(script, ".sh") {
					ran = append(ran, m.name+":"+script)
				} else if out != "" && strings.HasSuffix(script, ".sh") {
					w.t.Errorf("%s on %s said at its second run: %s", script, m.name, out)
				}
			}
		}
	}
	w.t.Log("ran twice: " + strings.Join(ran, " "))
}

// script runs one of a machine's scripts for later.
func (w *world) script(name, script string, env ...string) (string, error) {
	for _, m := range w.machines {
		for _, text := range m.runs {
			if m.name == name && filepath.Base(text) == script {
				return w.hosts[name].run(env, "sh", "-c", text)
			}
		}
	}
	return "", fmt.Errorf("%s does not run %s", name, script)
}

func (w *world) nodes() []machine {
	var out []machine
	for _, m := range w.machines {
		if m.node() {
			out = append(out, m)
		}
	}
	return out
}

// settings reads a file of settings as a shell does.
func settings(t *testing.T, content string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for line := range strings.Lines(content) {
		if key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok && strings.HasPrefix(value, "'") {
			out[key] = strings.Trim(value, "'")
		}
	}
	if len(out) == 0 {
		t.Fatalf("no settings in %q", content)
	}
	return out
}

// removeStale deletes the namespaces that tests that were killed have left.
func removeStale(ctx context.Context) error {
	found, err := filepath.Glob("/run/netns/fllabs-*")
	if err != nil {
		return err
	}
	for _, path := range found {
		name := filepath.Base(path)
		pid, _, _ := strings.Cut(strings.TrimPrefix(name, "fllabs-"), "-")
		if _, err := os.Stat("/proc/" + pid); err == nil {
			continue
		}
		if err := system(ctx, "ip", "netns", "del", name); err != nil {
			return err
		}
	}
	return nil
}
