package manifest

import (
	"flag"
	"net/netip"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write what comes out into testdata")

var options = Options{
	Image: "ghcr.io/fairlead/fairlead:1.2.3", Args: []string{"--address=192.0.2.100", "--members=192.0.2.1,192.0.2.2,192.0.2.3"},
	Probe:   netip.MustParseAddrPort("127.0.0.1:9813"),
	KeyFile: "/etc/fairlead/control-plane/members.key", CAFile: "/etc/kubernetes/pki/ca.crt", StateDir: "/var/lib/fairlead-control-plane",
}

// The pod as it is printed. A kubelet reads it, and finds no field that it does not know.
func TestRender(t *testing.T) {
	const file = "testdata/pod.yaml"
	got, err := Render(options)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("printed is (go test ./internal/controlplane/manifest -update)\n%s", got)
	}
	var pod corev1.Pod
	if err := yaml.UnmarshalStrict(got, &pod); err != nil {
		t.Fatal(err)
	}
}

// The pod may do what it has to do, and no more. Of the folder with the cluster's keys it has
// the CA's certificate alone.
func TestPodHasFewRights(t *testing.T) {
	o := options
	o.Kubeconfig, o.PasswordFile, o.BGP = "/etc/fairlead/control-plane/kubeconfig", "/etc/fairlead/bgp/password", true
	pod := o.pod()
	c := pod.Spec.Containers[0]
	if s := c.SecurityContext; *s.Privileged || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" {
		t.Errorf("the container may %+v", s)
	}
	for _, v := range pod.Spec.Volumes {
		if path := v.HostPath.Path; strings.HasPrefix(path, "/etc/kubernetes") && path != o.CAFile {
			t.Errorf("the pod has %s of the node", path)
		}
	}
	for _, m := range c.VolumeMounts {
		if m.MountPath != o.StateDir && !m.ReadOnly {
			t.Errorf("the pod may write to %s", m.MountPath)
		}
	}
	if n := len(pod.Spec.Volumes); n != 4 { // the key and the kubeconfig are in one folder
		t.Errorf("%d volumes", n)
	}
}

// The kubelet asks at an address that there is, also where metrics are served at all of them.
func TestProbe(t *testing.T) {
	for at, want := range map[string]string{"127.0.0.1:9813": "127.0.0.1", "192.0.2.1:9813": "192.0.2.1", "0.0.0.0:9813": "127.0.0.1", "[::]:9813": "::1"} {
		if got := probe("/livez", netip.MustParseAddrPort(at), 6).HTTPGet.Host; got != want {
			t.Errorf("of %s the kubelet asks %s, want %s", at, got, want)
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"--image":        func(o *Options) { o.Image = "" },
		"the whole path": func(o *Options) { o.CAFile = "ca.crt" },
	} {
		o := options
		change(&o)
		if _, err := Render(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
