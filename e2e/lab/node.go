package lab

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A node is a set of namespaces that its first process holds: to kill that
// one is to cut the power. Its mount namespace gives it its own /run, /etc,
// /var and /opt, so that nodes share the machine's files but never change
// them. /sys stays the machine's: a fresh one would lack the cgroups.

//go:embed node.sh
var nodeScript string

// bootNode powers the node on and brings its containerd up with the images.
func (l *Lab) bootNode(ctx context.Context, n node, images <-chan struct{}) error {
	if err := l.powerOn(ctx, n); err != nil {
		return fmt.Errorf("boot %s: %w", n.name, err)
	}
	select {
	case <-images:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, ref := range []string{pauseImage, corednsImage, HelloImage} {
		if err := l.importInto(ctx, n, l.imageFile(ref)); err != nil {
			return fmt.Errorf("boot %s: %w", n.name, err)
		}
	}
	return nil
}

func (l *Lab) powerOn(ctx context.Context, n node) error {
	if err := l.startInit(ctx, n); err != nil {
		return err
	}
	if err := l.writeNodeFiles(n); err != nil {
		return err
	}
	if err := l.furnish(ctx, n); err != nil {
		return err
	}
	if err := l.startIn(n, "containerd", "containerd", "--config", filepath.Join(l.state.node(n.name), "containerd.toml")); err != nil {
		return err
	}
	return Until(ctx, time.Minute, "containerd on "+n.name, func(ctx context.Context) error {
		_, err := l.Exec(ctx, n.name, "ctr", "version")
		return err
	})
}

// startInit starts the node's first process.
func (l *Lab) startInit(ctx context.Context, n node) error {
	cgroups, err := makeCgroups(n.cgroup())
	if err != nil {
		return err
	}
	err = l.start(process{
		name:    n.name,
		enter:   []string{"nsenter", "--net=" + filepath.Join(netnsDir, n.netns())},
		cgroups: cgroups,
		args:    []string{l.binary("pause")},
		clone:   syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWPID,
	})
	if err != nil {
		return err
	}
	return Until(ctx, 30*time.Second, "first process of "+n.name, func(context.Context) error {
		was, ok := l.running(n.name)
		if !ok {
			return errors.New("not running")
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", was.pid))
		if err == nil && strings.TrimSpace(string(comm)) != "pause" {
			return errors.New("not in its namespaces yet")
		}
		return err
	})
}

// furnish gives the node its own directories.
func (l *Lab) furnish(ctx context.Context, n node) error {
	_, err := l.Exec(ctx, n.name, "/bin/sh", "-c", nodeScript, n.name, string(l.state), l.state.node(n.name))
	return err
}

// startIn starts a program in all namespaces of the node and in its cgroup.
func (l *Lab) startIn(n node, name string, args ...string) error {
	enter, err := l.enter(n.name)
	if err != nil {
		return err
	}
	cgroups, err := makeCgroups(n.cgroup())
	if err != nil {
		return err
	}
	return l.start(process{name: n.name + "-" + name, enter: enter, cgroups: cgroups, args: args})
}

func (l *Lab) writeNodeFiles(n node) error {
	dir := l.state.node(n.name)
	files := map[string]string{
		"containerd.toml":   containerdConfig,
		"kubelet.json":      l.kubeletConfig(n),
		"kube-proxy.json":   l.kubeProxyConfig(n),
		"resolv.conf":       "",
		"disk/kubelet/.lab": "",
	}
	if l.cni() == nil {
		files["lab.conflist"] = cniConfig(n)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// containerdConfig works without CAP_SYS_RESOURCE, where a pod with a low
// oom_score_adj could not start otherwise.
const containerdConfig = `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + pauseImage + `"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
`

func cniConfig(n node) string { return CNIConfig([]string{n.pods().v4, n.pods().v6}) }

// CNIConfig is the CNI configuration of a node whose pods have addresses of these ranges,
// one or two. It is point to point links rather than a bridge: every packet of a pod, also
// to a pod of the same node, is routed and seen by conntrack, with or without br_netfilter.
func CNIConfig(pods []string) string {
	var routes []string
	for _, subnet := range pods {
		all := "0.0.0.0/0"
		if strings.Contains(subnet, ":") {
			all = "::/0"
		}
		routes = append(routes, all)
	}
	return marshal(object{
		"cniVersion": "0.4.0", "name": "lab",
		"plugins": []object{{
			"type": "ptp", "ipMasq": false,
			"ipam": hostLocal(pods, routes...),
		}, portmap},
	})
}

// hostLocal is the plugin that gives a node's pods addresses of subnets, with routes to
// destinations.
func hostLocal(subnets []string, routes ...string) object {
	var ranges [][]object
	var ways []object
	for _, s := range subnets {
		ranges = append(ranges, []object{{"subnet": s}})
	}
	for _, dst := range routes {
		ways = append(ways, object{"dst": dst})
	}
	return object{"type": "host-local", "ranges": ranges, "routes": ways}
}

// portmap is the plugin for ports of the node that pods ask for.
var portmap = object{"type": "portmap", "capabilities": object{"portMappings": true}}

type object = map[string]any

// marshal makes JSON, which every reader of YAML reads, of plain values.
func marshal(v any) string {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err)
	}
	return string(data)
}

func (l *Lab) kubeletConfig(n node) string {
	config := object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"authentication": object{
			"anonymous": object{"enabled": false},
			"webhook":   object{"enabled": true},
			"x509":      object{"clientCAFile": l.pki("ca.crt")},
		},
		"authorization":               object{"mode": "Webhook"},
		"cgroupDriver":                "cgroupfs",
		"cgroupRoot":                  "/" + n.cgroup(),
		"enforceNodeAllocatable":      []string{},
		"failSwapOn":                  false,
		"clusterDomain":               "cluster.local",
		"clusterDNS":                  []string{dnsIPv4},
		"resolvConf":                  filepath.Join(l.state.node(n.name), "resolv.conf"),
		"containerRuntimeEndpoint":    "unix:///run/containerd/containerd.sock",
		"staticPodPath":               "/etc/kubernetes/manifests",
		"serializeImagePulls":         false,
		"evictionHard":                object{"memory.available": "50Mi"}, // a full disk is the machine's business
		"imageGCHighThresholdPercent": 100,                                // there is no registry to pull again from
		"imageGCLowThresholdPercent":  99,
	}
	if !before(l.opt.Kubernetes, 31) { // an older kubelet refuses the field, and takes cgroups v1 without it
		config["failCgroupV1"] = false
	}
	return marshal(config)
}

// before reports whether a minor version such as 1.29 is older than 1.MINOR. The lab's own,
// "", is not.
func before(version string, minor int) bool {
	_, text, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(text)
	return err == nil && n < minor
}

func (l *Lab) kubeProxyConfig(n node) string {
	return marshal(object{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"mode":             "nftables",
		"clientConnection": object{"kubeconfig": l.pki("proxy.kubeconfig")},
		"hostnameOverride": n.name,
		"clusterCIDR":      podsIPv4 + "," + podsIPv6,
		"detectLocalMode":  "ClusterCIDR",
		"conntrack":        object{"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
	})
}

// nodeObjects are the Nodes before their kubelets register: the pod ranges
// are the same on every run.
func (l *Lab) nodeObjects() string {
	var items []object
	for _, n := range l.nodes {
		items = append(items, object{
			"apiVersion": "v1", "kind": "Node",
			"metadata": object{"name": n.name, "labels": object{"kubernetes.io/hostname": n.name}},
			"spec":     object{"podCIDR": n.pods().v4, "podCIDRs": []string{n.pods().v4, n.pods().v6}},
		})
	}
	return marshal(object{"apiVersion": "v1", "kind": "List", "items": items})
}

// startKubelets starts what makes Nodes of the nodes and waits until they are
// Ready.
func (l *Lab) startKubelets(ctx context.Context) error {
	step := l.progress.Begin("kubelets: %s", strings.Join(l.Nodes(), ", "))
	for _, n := range l.nodes {
		if err := l.startKubelet(n); err != nil {
			return step.Done(err)
		}
	}
	step.Waiting("nodes to be Ready")
	return step.Done(l.waitNodes(ctx))
}

// startKubelet starts the kubelet, and what makes the network of its pods. systemd starts a
// kubelet again that ends, as it does when containerd does not answer yet.
func (l *Lab) startKubelet(n node) error {
	if err := l.startNetwork(n); err != nil {
		return err
	}
	err := l.startIn(n, "kubelet", restarted(l.programs["kubelet"],
		"--config="+filepath.Join(l.state.node(n.name), "kubelet.json"),
		"--kubeconfig="+l.pki(n.name+".kubeconfig"),
		"--node-ip="+n.lan().bare().list(),
		"--hostname-override="+n.name)...)
	if err != nil || !l.opt.KubeProxy {
		return err
	}
	return l.startIn(n, "kube-proxy", l.programs["kube-proxy"], "--config="+filepath.Join(l.state.node(n.name), "kube-proxy.json"))
}

// waitNodes waits until a user can run a pod.
func (l *Lab) waitNodes(ctx context.Context) error {
	if _, err := l.Kubectl(ctx, "wait", "--for=condition=Ready", "nodes", "--all", "--timeout=3m"); err != nil {
		return err
	}
	_, err := l.Kubectl(ctx, "wait", "--for=create", "serviceaccount/default", "--timeout=1m")
	return err
}
