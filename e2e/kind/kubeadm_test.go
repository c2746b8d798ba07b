package kind

import (
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// printed is the end of what kubeadm init prints.
const printed = `You can now join any number of control-plane nodes running the following command on each as root:

  kubeadm join 198.18.0.99:6443 --token abcdef.0123456789abcdef \
	--discovery-token-ca-cert-hash sha256:00 \
	--control-plane --certificate-key 11

Then you can join any number of worker nodes by running the following on each as root:

kubeadm join 198.18.0.99:6443 --token abcdef.0123456789abcdef \
	--discovery-token-ca-cert-hash sha256:00
`

// The command that is printed for control planes runs on the others, and that for workers does
// not.
func TestReadJoin(t *testing.T) {
	join, err := ReadJoin("[init] 20 lines of kubeadm init\n" + printed)
	want := strings.Fields("kubeadm join 198.18.0.99:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:00 --control-plane --certificate-key 11")
	if err != nil || !slices.Equal(join, want) {
		t.Errorf("%q, %v", join, err)
	}
	_, workers, _ := strings.Cut(printed, "Then")
	if join, err := ReadJoin(workers); err == nil {
		t.Errorf("a worker's command was taken: %q", join)
	}
	line := strings.Join(Options{Engine: Podman, State: "/s"}.Join(plane(1), join).Args, " ")
	if !strings.HasPrefix(line, "/s/bin/podman exec fairlead2-control-plane kubeadm join 198.18.0.99:6443") || !strings.Contains(line, "--patches=") {
		t.Error(line)
	}
}

func TestPlaneAt(t *testing.T) {
	name, err := PlaneAt("198.18.0.99 dev podman1 lladdr 02:fa:1e:ad:00:0c REACHABLE\n")
	if err != nil || name != "fairlead2-control-plane" {
		t.Errorf("%q, %v", name, err)
	}
	if name, err := PlaneAt("198.18.0.99 dev podman1 FAILED\n"); err == nil {
		t.Errorf("nobody has the address, and %q was found", name)
	}
}

// The order: the LAN, then the containers. Each has the addresses that it is asked for by.
func TestPlanesUp(t *testing.T) {
	o := Options{Engine: Podman, State: "/s"}
	inOrder(t, o.PlanesUp(), "ip netns add fairlead-kind", "network create --driver=bridge",
		"--name=fairlead1-control-plane", "--ip=198.18.0.11", "--mac-address=02:fa:1e:ad:00:0b",
		"--name=fairlead3-control-plane", "--ip=198.18.0.13", "--mac-address=02:fa:1e:ad:00:0d")
	inOrder(t, o.Admit(plane(0), "key", "manifest"), "/etc/fairlead/control-plane/members.key", "/etc/kubernetes/manifests/fairlead-control-plane.yaml", "/var/lib/images")
	inOrder(t, []Command{o.Init("v1.36.3")}, "kubeadm init --control-plane-endpoint=198.18.0.99:6443 --upload-certs", "--kubernetes-version=v1.36.3")
	if err := yaml.UnmarshalStrict([]byte(kubeletPatch), &map[string]any{}); err != nil {
		t.Error(err)
	}
}

// A node has routes to the pods of the others, and not to its own.
func TestNetwork(t *testing.T) {
	ranges := map[string][]string{plane(0): {"198.18.128.0/24"}, plane(1): {"198.18.129.0/24"}, plane(2): {"198.18.130.0/24"}}
	list := Options{Engine: Podman}.Network(ranges, func(pods []string) string { return "cni of " + pods[0] })
	if len(list) != 2*planes || list[2].In != "route replace 198.18.128.0/24 via 198.18.0.11\nroute replace 198.18.130.0/24 via 198.18.0.13\n" || list[3].In != "cni of 198.18.129.0/24" {
		t.Errorf("%q", list)
	}
}
