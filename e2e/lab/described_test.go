package lab

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// here describes a cluster whose hosts are all this machine.
func here(t *testing.T) *Description {
	t.Helper()
	dir := t.TempDir()
	mark := func(what string) []string {
		return []string{"sh", "-c", `echo ` + what + ` >>"$0"`, filepath.Join(dir, "done")}
	}
	return &Description{
		Kubeconfig: filepath.Join(dir, "kubeconfig"), APIHost: "198.18.0.2", APIPort: 6443, State: dir,
		Nodes: []string{"one", "two"},
		Hosts: map[string]Host{
			Client: {Enter: []string{"env", "HOST=client"}},
			"one":  {Enter: []string{"env", "HOST=one"}, IPv4: "198.18.0.11", IPv6: "fd98:18::11", Pods: []string{"198.18.129.0/24"}, PowerOff: mark("off"), PowerOn: mark("on"), Runs: []string{"true"}},
			"two":  {Enter: []string{"env", "HOST=two"}, IPv4: "198.18.0.12", Runs: []string{"false"}},
		},
		Load:    append(mark("load"), "{}"),
		Agents:  3,
		LeftOut: map[string]string{"TestOne": "it has no router"},
		StopAPI: mark("api-off"),
	}
}

// What the stories do to a cluster is done to a described one by the commands of
// its description.
func TestDescribedCluster(t *testing.T) {
	d := here(t)
	file := filepath.Join(t.TempDir(), "cluster.json")
	data, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err = ReadDescription(file); err != nil {
		t.Fatal(err)
	}
	l := newLab(Options{State: d.State})
	t.Cleanup(l.Close)
	l.described, l.nodes = d, []node{{name: "one", index: 1}, {name: "two", index: 2}}
	for _, host := range []string{Client, "two"} {
		if out, err := l.Exec(t.Context(), host, "sh", "-c", "echo $HOST"); strings.TrimSpace(string(out)) != host {
			t.Errorf("in %s: %q, %v", host, out, err)
		}
	}
	if _, err := l.Exec(t.Context(), "three", "true"); err == nil || !strings.Contains(err.Error(), "there are client, one, two") {
		t.Errorf("an unknown host: %v", err)
	}
	for _, act := range []func() error{
		func() error { return l.StopNode(t.Context(), "one") },
		func() error { return l.PowerOnNode(t.Context(), "one") },
		func() error { return l.Import(t.Context(), "image.tar") },
		func() error { return l.StopAPIServer(t.Context()) },
	} {
		if err := act(); err != nil {
			t.Error(err)
		}
	}
	if done, _ := os.ReadFile(filepath.Join(filepath.Dir(d.Kubeconfig), "done")); string(done) != "off\non\nload\napi-off\n" {
		t.Errorf("done: %q", done)
	}
	if err := l.StopNode(t.Context(), "two"); err == nil || !strings.Contains(err.Error(), "has no command for it") {
		t.Errorf("without a command: %v", err)
	}
	if !l.NodeRuns("one") || l.NodeRuns("two") || l.Kubeconfig() != d.Kubeconfig || l.NodeAddress6("one") != "fd98:18::11" {
		t.Error("what runs, or an address, is not as described")
	}
	for ip, want := range map[string]string{"198.18.129.7": "one", "198.18.0.12": "two", "198.18.0.99": "198.18.0.99"} {
		if got := l.NodeOf(ip); got != want {
			t.Errorf("%s is of %s", ip, got)
		}
	}
	if l.Agents() != 3 || l.Families() != 1 || l.LeftOut("TestOne") != "it has no router" || l.LeftOut("TestTwo") != "" {
		t.Errorf("%d agents, %d families, left out: %q", l.Agents(), l.Families(), l.LeftOut("TestOne"))
	}
	if host, port := l.ground().api(); host != "198.18.0.2" || port != 6443 {
		t.Errorf("the API server is at %s, port %d", host, port)
	}
}

func TestDescriptionThatIsNotWhole(t *testing.T) {
	for want, spoil := range map[string]func(*Description){
		"host client has no command": func(d *Description) { delete(d.Hosts, Client) },
		"host two has no command":    func(d *Description) { delete(d.Hosts, "two") },
		"are needed":                 func(d *Description) { d.Load = nil },
		"host three: ParseAddr":      func(d *Description) { d.Hosts["three"] = Host{IPv4: "here"} },
	} {
		d := here(t)
		spoil(d)
		if err := d.objections(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
