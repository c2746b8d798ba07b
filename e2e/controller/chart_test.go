package controller_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/e2e/lab"
)

// release is the namespace that the chart is rendered for.
const release = "fairlead-system"

// TestChart: what the chart installs is enough for what it runs. The API server
// takes the rendered objects; the shipped program, with the arguments of the
// Deployment and the rights of its ServiceAccount and no others, does all its
// work, and is refused nothing. The first API server of its list never answers.
func TestChart(t *testing.T) {
	for mode, row := range map[string]struct{ values, lease string }{
		"controller": {"default", "fairlead-controller"},
		"ccm":        {"ccm", "fairlead-ccm"},
	} {
		t.Run(mode, func(t *testing.T) {
			c := newCluster(t)
			c.install(row.values, "--set", "pools[0].name=given,pools[0].addresses={198.51.100.0/30}")
			c.unlabel()
			program, args := c.commandLine()
			p := c.ship(program, args...)
			c.eventually("the pool of the values", func() error {
				_, err := c.Pools.Get(t.Context(), "given", metav1.GetOptions{})
				return err
			})
			c.labelled()
			c.rostered()
			c.must(c.Pools.Delete(t.Context(), "given", metav1.DeleteOptions{}))
			c.pool("lan", "192.0.2.0/30")
			c.service("web")
			c.holds("web", "192.0.2.0")
			c.condition("web", "True Assigned")
			c.pooled("lan", "4/1/3 PoolReady")
			c.hasEvent("web", "Normal EnsuredLoadBalancer")
			c.editStatus("web", func(st *corev1.ServiceStatus) { st.LoadBalancer.Ingress = nil })
			c.edit("web", note(v1alpha1.AnnotationAddresses, "192.0.2.2"))
			c.holds("web", "192.0.2.2")
			c.nodeProblem("web")
			c.hasEvent("web", "Warning NodePortClaimed")
			c.nodeGone()
			if mode == "ccm" {
				c.node("young", "192.0.2.11", corev1.Taint{Key: uninitialized, Value: "true", Effect: corev1.TaintEffectNoSchedule})
				c.looks("young", "fairlead://young InternalIP=192.0.2.11,Hostname=young ")
			}
			c.delete("web")
			c.gone("web")
			c.noRecords()
			if _, err := c.Kube.CoordinationV1().Leases(release).Get(t.Context(), row.lease, metav1.GetOptions{}); err != nil {
				t.Error(err)
			}
			p.stop()
			for line := range strings.Lines(p.said()) {
				if strings.Contains(strings.ToLower(line), "forbidden") {
					t.Errorf("lacks a right: %s", line)
				}
			}
		})
	}
}

// enforce is the label by which Pod Security admission lets the agents in.
const enforce = "pod-security.kubernetes.io/enforce"

// unlabel takes the label off the release's namespace.
func (c *cluster) unlabel() {
	c.Helper()
	_, err := server.Kubectl(c.Context(), "label", "namespace", release, enforce+"-")
	c.must(err)
}

// labelled waits until the namespace has the label.
func (c *cluster) labelled() {
	c.Helper()
	c.eventually("label of the namespace", func() error {
		ns, err := c.Kube.CoreV1().Namespaces().Get(c.Context(), release, metav1.GetOptions{})
		if err == nil && ns.Labels[enforce] != "privileged" {
			err = fmt.Errorf("the labels are %v", ns.Labels)
		}
		return err
	})
}

// install creates what the chart renders for a value set, until the end of the test.
func (c *cluster) install(values string, more ...string) {
	c.Helper()
	file := filepath.Join(c.TempDir(), values+".yaml")
	c.must(os.WriteFile(file, []byte(c.render(values, more...)), 0o600))
	c.releaseNamespace()
	c.Cleanup(func() {
		_, err := server.Kubectl(context.Background(), "delete", "--wait=false", "--ignore-not-found", "-f", file)
		c.must(err)
	})
	_, err := server.Kubectl(c.Context(), "create", "-f", file)
	c.must(err)
}

// render returns what the chart renders for a value set of charts/testdata, but for
// the CRDs, which the API server already has.
func (c *cluster) render(values string, more ...string) string {
	c.Helper()
	root, err := lab.Checkout()
	c.must(err)
	charts := filepath.Join(root, "charts")
	out, err := server.Helm(c.Context(), append([]string{"template", "fairlead", filepath.Join(charts, "fairlead"), "--namespace", release,
		"--values", filepath.Join(charts, "testdata", values+".values.yaml"), "--set", "crds.install=false"}, more...)...)
	c.must(err)
	return out
}

// releaseNamespace makes the namespace, which stays.
func (c *cluster) releaseNamespace() {
	c.Helper()
	_, err := c.Kube.CoreV1().Namespaces().Create(c.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: release}}, metav1.CreateOptions{})
	c.mustUnless(apierrors.IsAlreadyExists, err)
}

// commandLine is that of the Deployment's container, but for where to listen and
// how to reach the API server. The program is its name in the image.
func (c *cluster) commandLine() (program string, args []string) {
	c.Helper()
	d, err := c.Kube.AppsV1().Deployments(release).Get(c.Context(), "fairlead-controller", metav1.GetOptions{})
	c.must(err)
	kubeconfig, servers := c.identity(d.Spec.Template.Spec.ServiceAccountName)
	container := d.Spec.Template.Spec.Containers[0]
	args = slices.DeleteFunc(container.Args, func(a string) bool { return strings.HasPrefix(a, "--api-servers=") })
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "$(POD_NAMESPACE)", release)
		switch name, _, _ := strings.Cut(a, "="); name {
		case "--secure-port":
			args[i] = fmt.Sprintf("%s=%d", name, freePort(c))
			args = append(args, "--bind-address=127.0.0.1")
		case "--health-address", "--metrics-address", "--page-address":
			args[i] = fmt.Sprintf("%s=127.0.0.1:%d", name, freePort(c))
		}
	}
	return strings.TrimPrefix(container.Command[0], "/"), append(args, "--kubeconfig="+kubeconfig, "--api-servers="+strings.Join(servers, ","))
}

// identity is a kubeconfig with a ServiceAccount's token and an API server that
// nobody is, and the list of this one and the real one.
func (c *cluster) identity(account string) (kubeconfig string, servers []string) {
	c.Helper()
	token, err := c.Kube.CoreV1().ServiceAccounts(release).CreateToken(c.Context(), account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	c.must(err)
	config, err := clientcmd.LoadFromFile(server.Kubeconfig)
	c.must(err)
	at := config.Contexts[config.CurrentContext]
	config.AuthInfos[at.AuthInfo] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	nobody := fmt.Sprintf("https://127.0.0.1:%d", freePort(c))
	servers = []string{nobody, config.Clusters[at.Cluster].Server}
	config.Clusters[at.Cluster].Server = nobody
	kubeconfig = filepath.Join(c.TempDir(), "kubeconfig")
	c.must(clientcmd.WriteToFile(*config, kubeconfig))
	return kubeconfig, servers
}

// nodeProblem makes a node whose agent could not serve a node port of a Service,
// and waits for the Service's condition.
func (c *cluster) nodeProblem(service string) {
	c.Helper()
	_, err := c.Kube.CoreV1().Nodes().Create(c.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})
	c.must(err)
	st := c.nodeState("n1")
	st.Status.Problems = []v1alpha1.ServiceProblem{{Service: "default/" + service, Reason: "NodePortClaimed", Message: "node port 30080/tcp: taken"}}
	_, err = c.NodeStates.UpdateStatus(c.Context(), st, metav1.UpdateOptions{})
	c.must(err)
	c.eventually("condition of "+service, func() error {
		for _, k := range c.get(service).Status.Conditions {
			if k.Type == v1alpha1.ConditionNodePorts && k.Reason == "NodePortClaimed" {
				return nil
			}
		}
		return fmt.Errorf("%+v", c.get(service).Status.Conditions)
	})
}

// nodeState makes the NodeState of a node.
func (c *cluster) nodeState(node string) *v1alpha1.NodeState {
	c.Helper()
	st, err := c.NodeStates.Create(c.Context(), &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{})
	c.must(err)
	return st
}

// nodeGone deletes the node, and waits until its NodeState has followed it.
func (c *cluster) nodeGone() {
	c.Helper()
	c.must(c.Kube.CoreV1().Nodes().Delete(c.Context(), "n1", metav1.DeleteOptions{}))
	c.eventually("end of the NodeState", func() error {
		_, err := c.NodeStates.Get(c.Context(), "n1", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is still there: %w", err)
	})
}

// hasEvent waits for an Event of a Service, as "Type Reason".
func (c *cluster) hasEvent(name, want string) {
	c.Helper()
	c.eventually("Event of "+name, func() error {
		if e := c.events(name); !slices.Contains(e, want) {
			return fmt.Errorf("%q, want %s", e, want)
		}
		return nil
	})
}
