package labs

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// vagrantfile is what the Vagrantfile asks for with some settings, in addresses that
// nothing real has.
func vagrantfile(t *testing.T, root string, env ...string) []machine {
	t.Helper()
	cmd := exec.Command("ruby", "testdata/vagrant.rb", filepath.Join(root, "labs", "vagrant", "Vagrantfile"))
	cmd.Env = append(append(os.Environ(), "VAGRANT_DOTFILE_PATH="+t.TempDir(), "LAN=198.18.56", "OUTSIDE=198.18.57", "ROUTED=198.18.58", "PODS=198.18"), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	must(t, err)
	var asked struct {
		Machines []struct {
			Name, Hostname string
			Networks       []struct {
				IP   string
				Name string `json:"virtualbox__intnet"`
			}
			Provisions []struct{ Name, Run, Inline string }
		}
		Folders    map[string]string
		Virtualbox [][]string
	}
	must(t, json.Unmarshal(out, &asked))
	if here, _ := filepath.EvalSymlinks(asked.Folders["/opt/fairlead"]); here != root {
		t.Errorf("the machines see %v, want the checkout at /opt/fairlead", asked.Folders)
	}
	for _, card := range []string{"--nicpromisc2", "--nicpromisc3"} {
		if !slices.ContainsFunc(asked.Virtualbox, func(a []string) bool { return slices.Contains(a, card) && slices.Contains(a, "allow-all") }) {
			t.Errorf("VirtualBox is not told %s allow-all: %v", card, asked.Virtualbox)
		}
	}
	var machines []machine
	for _, a := range asked.Machines {
		m := machine{name: a.Name}
		for _, n := range a.Networks {
			m.cards = append(m.cards, card{strings.TrimPrefix(n.Name, "fairlead-"), n.IP + "/24"})
		}
		for _, p := range a.Provisions {
			if p.Name == "settings" {
				m.setting = settings(t, p.Inline)
			} else if _, err := os.Stat(strings.Replace(p.Inline, "/opt/fairlead", root, 1)); err != nil {
				t.Errorf("%s would run %s: %v", a.Name, p.Inline, err)
			}
			m.runs = append(m.runs, p.Inline)
		}
		machines = append(machines, m)
	}
	return machines
}

// TestVagrant: what "vagrant up" would do to its machines ends in the client's curl of
// the EXTERNAL-IP, and the loss of a node in another one.
func TestVagrant(t *testing.T) {
	for _, announce := range []string{"l2", "bgp"} {
		t.Run(announce, func(t *testing.T) {
			w := newWorld(t, root(t), vagrantfile(t, root(t), "ANNOUNCE="+announce))
			w.switches()
			w.provision()
			c := newCluster(t, w)
			c.tell()
			if announce == "bgp" {
				c.sessions("router")
			}
			out, err := c.script("client", "client.sh")
			must(t, err)
			wantAll(t, "client", out, 3)
			url := w.machines[len(w.machines)-1].setting["URL"]
			vip := vipOf(url)
			if announce == "bgp" {
				c.has("router", `(?s)`+vip+`.*nexthop.*nexthop.*nexthop`, "ip", "route", "show", vip)
				c.survives("node2", url, "client")
			} else {
				c.survives(c.owner("client", "eth1", vip), url, "client")
			}
		})
	}
}
