package kind

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/e2e/lab"
)

func TestConfig(t *testing.T) {
	for name, one := range map[string]struct {
		opt  Options
		want []string
	}{
		"dual":       {Options{State: "/s"}, []string{"ipFamily: dual", "kubeProxyMode: none", "podSubnet: 198.18.128.0/17,fd98:18:80::/48", "name: node3", "hostPath: /s"}},
		"ipv4":       {Options{Family: IPv4}, []string{"ipFamily: ipv4", "podSubnet: 198.18.128.0/17\n", "serviceSubnet: 198.19.0.0/16\n"}},
		"ipv6":       {Options{Family: IPv6, Image: "kindest/node:v1.29.14"}, []string{"serviceSubnet: fd98:19::/112\n", "image: kindest/node:v1.29.14"}},
		"kube-proxy": {Options{KubeProxy: true}, []string{"kubeProxyMode: nftables"}},
	} {
		got := one.opt.Config()
		for _, want := range one.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in\n%s", name, want, got)
			}
		}
		var parsed struct{ Nodes []struct{ Role string } }
		if err := yaml.UnmarshalStrict([]byte(got), &map[string]any{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := yaml.Unmarshal([]byte(got), &parsed); err != nil || len(parsed.Nodes) != 1+Workers {
			t.Errorf("%s: %d nodes, %v", name, len(parsed.Nodes), err)
		}
	}
	if err := (Options{Family: "ipx"}).Check(); err == nil {
		t.Error("a family that there is not")
	}
}

// The order: networks, cluster, hosts on them, routes through the router.
func TestUpAndDown(t *testing.T) {
	o := Options{State: "/s"}
	var lines []string
	for _, c := range o.Up(o.Files("/bin/kind")) {
		lines = append(lines, strings.Join(append(c.Env, c.Args...), " "))
	}
	all := strings.Join(lines, "\n")
	last := -1
	for _, want := range []string{
		"docker network create --driver=bridge --ipv6 --subnet=198.18.0.0/24",
		"KIND_EXPERIMENTAL_DOCKER_NETWORK=fairlead /bin/kind create cluster --config=/s/kind.yaml --kubeconfig=/s/kubeconfig",
		"--name=fairlead-client --network=fairlead --ip=198.18.0.100",
		"--name=fairlead-router --network=fairlead --ip=198.18.0.254",
		"docker exec fairlead-worker3 ip route replace 198.18.1.0/24 via 198.18.0.254",
		"docker exec fairlead-ext ip route replace default via 198.18.1.1",
	} {
		at := strings.Index(all, want)
		if at <= last {
			t.Errorf("%q is missing or too early in\n%s", want, all)
		}
		last = at
	}
	if down := o.Down(o.Files("/bin/kind")); len(down) != 3 || down[2].Args[1] != "network" {
		t.Errorf("down: %v", down)
	}
}

func TestDescribe(t *testing.T) {
	inspected := `[{"NetworkSettings":{"Networks":{"fairlead":{"IPAddress":"198.18.0.9","GlobalIPv6Address":"fd98:18::3"}}}}]`
	one, err := ReadAddresses([]byte(inspected))
	if err != nil || one.IPv4 != "198.18.0.9" || one.IPv6 != "fd98:18::3" {
		t.Errorf("%+v, %v", one, err)
	}
	if _, err := ReadAddresses([]byte(strings.Replace(inspected, "fairlead", "bridge", 1))); err == nil {
		t.Error("a container of another network is taken")
	}
	o := Options{State: "/s", Family: IPv6}
	d := o.Describe(o.Files("/bin/kind"), []Found{{IPv6: "fd98:18::2"}, one, one, one})
	if d.APIHost != "fd98:18::2" || len(d.Nodes) != Workers || d.Hosts["node2"].PowerOff[2] != "fairlead-worker2" || d.Hosts[lab.Client].Enter[3] != "fairlead-client" {
		t.Errorf("%+v", d)
	}
}

// Every story that is left out exists, and the README says why it is.
func TestDifferencesAreTold(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	told := strings.Join(strings.Fields(string(readme)), " ")
	for _, d := range Differences {
		if !strings.Contains(told, d.Story+"`: "+d.Why) {
			t.Errorf("README.md does not say of %s: %s", d.Story, d.Why)
		}
	}
	story := Story("/s/cluster.json", "Paths")
	skip := story.Args[len(story.Args)-1]
	if _, err := regexp.Compile(strings.TrimPrefix(skip, "-skip=")); err != nil || !strings.Contains(skip, Differences[1].Story) {
		t.Errorf("%s: %v", skip, err)
	}
}
