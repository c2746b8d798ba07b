package labs

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairlead/fairlead/e2e/apiserver"
	"github.com/fairlead/fairlead/e2e/lab"
)

// system namespace of fairlead, as in the chart.
const namespace = "fairlead-system"

// cluster is the Kubernetes of a world: a real API server on the machine's loopback,
// fairlead's controller beside it, an agent on every node, and a pod of the Service
// web on each, which answers as the image of labs/web.yaml does.
type cluster struct {
	*world
	server   *apiserver.Server
	client   kubernetes.Interface
	programs map[string]string
	fairlead string
	slices   []discoveryv1.Endpoint
}

func newCluster(t *testing.T, w *world) *cluster {
	t.Helper()
	c := &cluster{world: w}
	var err error
	c.fairlead, err = lab.BuildShipped(t.Context(), t.TempDir())
	must(t, err)
	c.server, err = apiserver.Start(t.Context(), t.TempDir(), io.Discard)
	must(t, err)
	t.Cleanup(c.server.Stop)
	c.programs, err = lab.ControlPlanePrograms(t.Context(), lab.Options{Out: io.Discard})
	must(t, err)
	config, err := clientcmd.BuildConfigFromFlags("", c.server.Kubeconfig)
	must(t, err)
	c.client, err = kubernetes.NewForConfig(config)
	must(t, err)
	_, err = c.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	must(t, err)
	c.controller()
	address := strings.TrimPrefix(config.Host, "https://")
	for _, m := range w.nodes() {
		c.join(m, address)
	}
	return c
}

func (c *cluster) controller() {
	log, err := os.Create(filepath.Join(c.t.ArtifactDir(), "controller.log"))
	must(c.t, err)
	cmd := exec.Command(c.fairlead, "controller", "--kubeconfig="+c.server.Kubeconfig, "--leader-elect-namespace="+namespace, "--health-address=", "--metrics-address=") //nolint:gosec // our own
	cmd.Stdout, cmd.Stderr = log, log
	must(c.t, cmd.Start())
	c.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		_ = log.Close()
	})
}

// join makes a machine a node: the Node, as kubeadm and the kubelet would; the
// bridge that the CNI plugin would make, with a pod; and the agent.
func (c *cluster) join(m machine, api string) {
	t, h := c.t, c.hosts[m.name]
	node, err := c.client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.name, Labels: map[string]string{corev1.LabelHostname: m.name}}}, metav1.CreateOptions{})
	must(t, err)
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: m.setting["ADDRESS"]}, {Type: corev1.NodeHostName, Address: m.name}}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}}
	_, err = c.client.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{})
	must(t, err)

	c.pod(m)
	go apiserver.Pass(listen(t, h.path(), api), api)
	state := t.TempDir()
	h.start("agent-"+m.name+".log", c.fairlead, "agent", "--kubeconfig="+c.server.Kubeconfig, "--node-name="+m.name,
		"--proxy=full", "--detect-local=bridge=cni0", "--state-dir="+state)
}

// pod makes a node's pod, on the bridge that the conflist of pod-network.sh names,
// at the second address of its range.
func (c *cluster) pod(m machine) {
	t, h := c.t, c.hosts[m.name]
	var cidr string
	for _, text := range strings.Fields(m.setting["NODES"]) {
		if parts := strings.Split(text, "="); parts[0] == m.name {
			cidr = parts[2]
		}
	}
	base := strings.TrimSuffix(cidr, "0/24")
	p := fmt.Sprintf("fllabs-%d-%s-pod", os.Getpid(), m.name)
	must(t, system(t.Context(), "ip", "netns", "add", p))
	t.Cleanup(func() { must(t, system(context.Background(), "ip", "netns", "del", p)) })
	h.ip("link add cni0 type bridge stp_state 0 forward_delay 0", "link set cni0 up", "addr add "+base+"1/24 dev cni0",
		"link add pod type veth peer name eth0 netns "+p, "link set pod master cni0 up")
	must(t, ipBatch(t.Context(), p, "link set lo up", "addr add "+base+"2/24 dev eth0", "link set eth0 up", "route add default via "+base+"1"))

	name, yes := "web-on-"+m.name, true
	l := listen(t, "/run/netns/"+p, ":8080")
	s := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	c.slices = append(c.slices, discoveryv1.Endpoint{
		Addresses: []string{base + "2"}, NodeName: &m.name, Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes},
	})
}

// tell runs cluster.sh, twice, and makes what the pods' controllers would.
func (c *cluster) tell() {
	c.t.Helper()
	env := []string{"KUBECONFIG=" + c.server.Kubeconfig, "PATH=" + filepath.Dir(c.programs["kubectl"]) + ":" + os.Getenv("PATH")}
	for range 2 {
		_, err := c.script("node1", "cluster.sh", env...)
		must(c.t, err)
	}
	port := int32(8080)
	_, err := c.client.DiscoveryV1().EndpointSlices("default").Create(c.t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "web", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: &port}}, Endpoints: c.slices,
	}, metav1.CreateOptions{})
	must(c.t, err)
}
