// Package manifest makes the static pod that runs fairlead control-plane.
package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// Name is of the pod, before the node's name.
const Name = "fairlead-control-plane"

// Options are what the pod is made of.
type Options struct {
	Image string
	Args  []string       // of fairlead control-plane
	Probe netip.AddrPort // where the kubelet asks; the zero value: it does not
	BGP   bool           // the process of a session is another user's
	// The files and the folder that Args name. Those that are empty are not mounted.
	KeyFile, CAFile, Kubeconfig, PasswordFile, StateDir string
}

// Render returns the manifest: YAML with a comment at its beginning.
func Render(o Options) ([]byte, error) {
	if o.Image == "" {
		return nil, errors.New("--image: give the image: this program is not a release, whose image it could name")
	}
	for _, file := range []string{o.KeyFile, o.CAFile, o.Kubeconfig, o.PasswordFile, o.StateDir} {
		if file != "" && !filepath.IsAbs(file) {
			return nil, fmt.Errorf("%s: give the whole path: the pod mounts it from the node", file)
		}
	}
	pod := o.pod()
	text, err := yaml.Marshal(pod)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	text = bytes.ReplaceAll(text, []byte("  creationTimestamp: null\n"), nil)
	text = bytes.TrimSuffix(text, []byte("status: {}\n"))
	return append([]byte("# The same on every control-plane node: /etc/kubernetes/manifests/"+Name+".yaml\n"), text...), nil
}

func (o Options) pod() *corev1.Pod {
	root := int64(0)
	labels := map[string]string{"app.kubernetes.io/name": Name, "app.kubernetes.io/component": "control-plane"}
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: Name, Namespace: "kube-system", Labels: labels},
		Spec: corev1.PodSpec{
			HostNetwork: true, DNSPolicy: corev1.DNSDefault, PriorityClassName: "system-node-critical",
			SecurityContext: &corev1.PodSecurityContext{
				// Capabilities that are added are void for any other user.
				RunAsUser: &root, RunAsGroup: &root, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{o.container()},
			Volumes:    o.volumes(),
		},
	}
}

func (o Options) container() corev1.Container {
	yes, no := true, false
	add := []corev1.Capability{"NET_ADMIN", "NET_RAW", "SYS_NICE"}
	if o.BGP {
		add = append(add, "SETUID", "SETGID", "KILL")
	}
	c := corev1.Container{
		Name: "control-plane", Image: o.Image, ImagePullPolicy: corev1.PullIfNotPresent,
		Command: []string{"/fairlead", "control-plane"}, Args: o.Args,
		Env: []corev1.EnvVar{{Name: "MEMORY_LIMIT", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory"}}}},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("20m"), corev1.ResourceMemory: resource.MustParse("48Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("192Mi")},
		},
		SecurityContext: &corev1.SecurityContext{
			Privileged: &no, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: add},
		},
		VolumeMounts: o.mounts(),
	}
	if o.Probe.IsValid() {
		// /livez does not ask the kube-apiserver, whose end must not end this pod.
		c.LivenessProbe = probe("/livez", o.Probe, 6)
		c.ReadinessProbe = probe("/readyz", o.Probe, 3)
	}
	return c
}

func probe(path string, at netip.AddrPort, failures int32) *corev1.Probe {
	host := at.Addr()
	if host.IsUnspecified() { // it listens everywhere, and this is nothing to connect to
		host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if at.Addr().Is6() {
			host = netip.IPv6Loopback()
		}
	}
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Host: host.String(), Path: path, Port: intstr.FromInt32(int32(at.Port()))}},
		PeriodSeconds: 10, TimeoutSeconds: 3, FailureThreshold: failures,
	}
}

// mounted is a path of the node.
type mounted struct {
	name, path string
	kind       corev1.HostPathType
	writable   bool
}

// mounted returns what the pod has of the node. Files are mounted by their
// folders, so that a file that is replaced is seen. The CA certificate
// is mounted alone: its folder has the private keys of the cluster.
func (o Options) mounted() (out []mounted) {
	add := func(m mounted) {
		for _, was := range out {
			if was.path == m.path {
				return
			}
		}
		out = append(out, m)
	}
	if o.KeyFile != "" {
		add(mounted{"key", filepath.Dir(o.KeyFile), corev1.HostPathDirectory, false})
	}
	if o.Kubeconfig != "" {
		add(mounted{"kubeconfig", filepath.Dir(o.Kubeconfig), corev1.HostPathDirectory, false})
	}
	if o.PasswordFile != "" {
		add(mounted{"password", filepath.Dir(o.PasswordFile), corev1.HostPathDirectory, false})
	}
	if o.CAFile != "" {
		add(mounted{"ca", o.CAFile, corev1.HostPathFile, false})
	}
	if o.StateDir != "" {
		add(mounted{"state", o.StateDir, corev1.HostPathDirectoryOrCreate, true})
	}
	return out
}

func (o Options) volumes() (out []corev1.Volume) {
	for _, m := range o.mounted() {
		out = append(out, corev1.Volume{Name: m.name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: m.path, Type: &m.kind}}})
	}
	return out
}

func (o Options) mounts() (out []corev1.VolumeMount) {
	for _, m := range o.mounted() {
		out = append(out, corev1.VolumeMount{Name: m.name, MountPath: m.path, ReadOnly: !m.writable})
	}
	return out
}
