package kind

import (
	"os"
	"path/filepath"
	"slices"
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
		"services":   {Options{Services: "198.19.0.0/17"}, []string{"serviceSubnet: 198.19.0.0/17,fd98:19::/112\n"}},
		"podman":     {Options{Engine: Podman}, []string{"disableDefaultCNI: true", "failCgroupV1: false", "image: " + NodeImage}},
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
	inOrder(t, o.Up(o.Files("/bin/kind"), "/bin"),
		"docker network create --driver=bridge --ipv6 --subnet=198.18.0.0/24",
		"KIND_EXPERIMENTAL_DOCKER_NETWORK=fairlead /bin/kind create cluster --config=/s/kind.yaml --kubeconfig=/s/kubeconfig",
		"--name=fairlead-client --network=fairlead --ip=198.18.0.100",
		"--name=fairlead-router --network=fairlead --ip=198.18.0.254",
		"docker exec --interactive fairlead-client sh -c",
		"docker exec --interactive fairlead-ext sh -c")
	if down := o.Down(o.Files("/bin/kind"), "/bin"); len(down) != 3 || down[2].Args[1] != "network" {
		t.Errorf("down: %v", down)
	}
	if enter := o.Enter(); enter != nil {
		t.Errorf("the machine is entered by %q", enter)
	}
}

// With Podman the networks are in a network namespace, and what is not a container's is
// removed after them.
func TestUpAndDownOnPodman(t *testing.T) {
	o := Options{Engine: Podman, State: "/s"}
	f := o.Files("/bin/kind")
	inOrder(t, o.Up(f, "/bin"),
		"ip netns add fairlead-kind",
		"/s/bin/podman network create --driver=bridge --ipv6",
		"PATH=/s/bin:/bin /bin/kind create cluster",
		"--entrypoint=sleep "+NodeImage)
	inOrder(t, o.Down(f, "/bin"), "podman rm --all", "podman network rm fairlead fairlead-ext", "umount /s.podman/storage/overlay", "ip netns del fairlead-kind", "rm --recursive --force --one-file-system /s.podman")
}

// Nodes have the addresses of the lab's, and nothing is written to the machine's Podman.
func TestPodmanOfItsOwn(t *testing.T) {
	files := Options{Engine: Podman, State: "/s"}.Podman("/usr/bin/podman", "/c/store", Limits{20000, 30000})
	for path, wants := range map[string][]string{
		"/s/bin/podman": {
			"CONTAINERS_CONF=/s/containers.conf CONTAINERS_STORAGE_CONF=/s/storage.conf",
			`"run --name fairlead-control-plane")`, "--ip=198.18.0.2 --ip6=fd98:18::2 --mac-address=02:fa:1e:ad:00:02",
			`"run --name fairlead-worker3")`, "--ip=198.18.0.13 --ip6=fd98:18::d",
			`exec nsenter --net=/run/netns/fairlead-kind /usr/bin/podman "$@"`,
			"modules=/s/modules\n", "set -- run --cgroup-parent=/fairlead-kind --dns-search=.",
		},
		"/s/containers.conf": {`"nofile=20000:20000", "nproc=30000:30000"`, `static_dir = "/s.podman/libpod"`},
		"/s/storage.conf":    {`graphroot = "/s.podman/storage"`, `additionalimagestores = ["/c/store"]`},
	} {
		for _, want := range wants {
			if !strings.Contains(files[path], want) {
				t.Errorf("%s: no %q in\n%s", path, want, files[path])
			}
		}
	}
}

// inOrder checks that the command lines have the texts in this order.
func inOrder(t *testing.T, list []Command, wants ...string) {
	t.Helper()
	var lines []string
	for _, c := range list {
		lines = append(lines, strings.Join(append(c.Env, c.Args...), " "))
	}
	all := strings.Join(lines, "\n")
	last := -1
	for _, want := range wants {
		at := strings.Index(all, want)
		if at <= last {
			t.Errorf("%q is missing or too early in\n%s", want, all)
		}
		last = at
	}
}

// What depends on the ranges of the pods: routes to those of other nodes, and the CNI.
func TestSettle(t *testing.T) {
	found := []Found{
		{Name: controlPlane, IPv4: "198.18.0.2", IPv6: "fd98:18::2", Pods: []string{"198.18.128.0/24", "fd98:18:80::/64"}},
		{Name: container(0), IPv4: "198.18.0.11", IPv6: "fd98:18::b", Pods: []string{"198.18.129.0/24", "fd98:18:80:1::/64"}},
	}
	cni := func(pods []string) string { return strings.Join(pods, ",") }
	list := Options{Engine: Podman, State: "/s"}.Settle(found, cni, "dns")
	if len(list) != 7 || list[1].In != "dns" || list[3].In != "198.18.128.0/24,fd98:18:80::/64" {
		t.Fatalf("%+v", list)
	}
	if want := "route replace 198.18.129.0/24 via 198.18.0.11\n"; !strings.Contains(list[0].In, want) || list[0].Args[3] != "fairlead-router" {
		t.Errorf("the router gets no %q: %+v", want, list[0])
	}
	list = list[2:]
	for _, want := range []string{"198.18.1.0/24 via 198.18.0.254\n", "198.18.129.0/24 via 198.18.0.11\n", "fd98:18:80:1::/64 via fd98:18::b\n"} {
		if !strings.Contains(list[0].In, "route replace "+want) {
			t.Errorf("no %q in\n%s", want, list[0].In)
		}
	}
	if strings.Contains(list[2].In, "198.18.129.0/24") {
		t.Errorf("a node has a route to its own pods:\n%s", list[2].In)
	}
	if list := (Options{}).Settle(found, cni, "dns"); len(list) != 4 || strings.Contains(list[1].In, "198.18.129.0/24") {
		t.Errorf("with Docker, kind's CNI has the routes: %+v", list)
	}
}

func TestSystemImages(t *testing.T) {
	list := SystemImages("registry.k8s.io/kube-apiserver:v1.36.3\nregistry.k8s.io/coredns/coredns:v1.14.2\nregistry.k8s.io/pause:3.10.2\n")
	want := []SystemImage{
		{"registry.k8s.io/kube-apiserver:v1.36.3", "kube-apiserver", "control-plane/kube-apiserver.tar"},
		{"registry.k8s.io/coredns/coredns:v1.14.2", "coredns", "all/coredns.tar"},
		{"registry.k8s.io/pause:3.10.2", "pause", "all/pause.tar"},
	}
	if !slices.Equal(list, want) {
		t.Errorf("got %+v", list)
	}
}

func TestDescribe(t *testing.T) {
	inspected := `[{"Name":"/fairlead-worker","NetworkSettings":{"Networks":{"fairlead":{"IPAddress":"198.18.0.9","GlobalIPv6Address":"fd98:18::3"}}}}]`
	one, err := ReadAddresses([]byte(inspected))
	if err != nil || one.Name != "fairlead-worker" || one.IPv4 != "198.18.0.9" || one.IPv6 != "fd98:18::3" {
		t.Errorf("%+v, %v", one, err)
	}
	if _, err := ReadAddresses([]byte(strings.Replace(inspected, `"fairlead"`, `"bridge"`, 1))); err == nil {
		t.Error("a container of another network is taken")
	}
	ranges, err := ReadPodRanges([]byte(`{"items":[{"metadata":{"name":"node2"},"spec":{"podCIDRs":["198.18.130.0/24"]}}]}`))
	if err != nil || !slices.Equal(ranges["fairlead-worker2"], []string{"198.18.130.0/24"}) {
		t.Errorf("%v, %v", ranges, err)
	}
	o := Options{State: "/s", Family: IPv6}
	d := o.Describe(o.Files("/bin/kind"), []Found{{IPv6: "fd98:18::2"}, one, one, one})
	if d.APIHost != "fd98:18::2" || len(d.Nodes) != Workers || !slices.Contains(d.Hosts["node2"].PowerOff, "fairlead-worker2") || d.Hosts[lab.Client].Enter[3] != "fairlead-client" {
		t.Errorf("%+v", d)
	}
	if got := string(ByAddress([]byte("server: https://fairlead-control-plane:6443\n"), "fd98:18::2")); got != "server: https://[fd98:18::2]:6443\n" {
		t.Errorf("kubeconfig %q", got)
	}
}

// Every story that is left out exists, and is left out where it cannot run alone.
func TestDifferences(t *testing.T) {
	files, err := filepath.Glob("../stories/*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var stories strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		stories.Write(text)
	}
	for _, d := range Differences {
		if !strings.Contains(stories.String(), "func "+d.Story+"(t *testing.T)") || d.Why == "" {
			t.Errorf("no story %s, or no reason: %q", d.Story, d.Why)
		}
	}
	const restarted, egress, table = "TestNodeRestartedWithoutAPIServerForwardsWhatItsAgentSaved", "TestPodsLeaveWithTheirServicesAddress", "TestTableDeletedByHandIsRepairedAndSaid"
	const kept, apart, flaps = "TestPodsKeepTheirAddressesInTheCluster", "TestTwoAddressesOfOneServiceAreAtTwoNodes", "TestAttackByFlapsMovesNoAddress"
	for name, one := range map[string]struct {
		opt       Options
		out, runs []string
	}{
		"docker":     {Options{}, []string{restarted, egress, "TestControlPlane"}, []string{table}},
		"podman":     {Options{Engine: Podman}, []string{"TestControlPlane"}, []string{restarted, egress, table, kept, apart, flaps}},
		"ipv4":       {Options{Engine: Podman, Family: IPv4}, []string{restarted, egress, kept}, []string{table, apart, flaps}},
		"ipv6":       {Options{Engine: Podman, Family: IPv6}, []string{restarted, egress, kept, apart, flaps}, []string{table}},
		"kube-proxy": {Options{Engine: Podman, KubeProxy: true}, []string{restarted, egress, table}, []string{"TestEveryPathReachesEveryPod"}},
	} {
		left := one.opt.LeftOut()
		for _, story := range one.out {
			if left[story] == "" {
				t.Errorf("%s: %s is not left out", name, story)
			}
		}
		for _, story := range one.runs {
			if left[story] != "" {
				t.Errorf("%s: %s is left out: %s", name, story, left[story])
			}
		}
	}
}
