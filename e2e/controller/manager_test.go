package controller_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestControllerManager: what fairlead has of Kubernetes' own controllers, with the
// kube-controller-manager of the version under test.
func TestControllerManager(t *testing.T) {
	c := newCluster(t)
	stop, err := server.RunControllerManager()
	c.must(err)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	for _, story := range []struct {
		name string
		tell func(*cluster)
	}{
		{"endpoints of pods", (*cluster).testPods},
		{"endpoints made by hand", (*cluster).testMirrored},
		{"endpoints of a zone", (*cluster).testZones},
		{"endpoints of a lost node", (*cluster).testLostNode},
		{"end of a namespace", (*cluster).testNamespaceEnds},
		{"end of the installation's namespace", (*cluster).testInstallationEnds},
		{"end of a Service in the foreground", (*cluster).testForeground},
		{"roles for people", (*cluster).testAggregation},
		{"pods of the chart", (*cluster).testChartPods},
	} {
		t.Run(story.name, func(t *testing.T) { story.tell(newCluster(t)) })
	}
}

// testNamespaceEnds: a namespace is deleted while no controller runs, and goes. What its
// Services held is free when one runs.
func (c *cluster) testNamespaceEnds() {
	c.namespace("shop")
	c.pool("lan", "192.0.2.0/31")
	r := c.start(options)
	for _, s := range []*corev1.Service{newService("a"), newService("b")} {
		_, err := c.Kube.CoreV1().Services("shop").Create(c.Context(), s, metav1.CreateOptions{})
		c.must(err)
	}
	c.pooled("lan", "2/2/0 PoolReady")
	c.service("waits")
	c.refused("waits", "PoolExhausted")
	r.settled()
	r.stop()

	c.must(c.Kube.CoreV1().Namespaces().Delete(c.Context(), "shop", metav1.DeleteOptions{}))
	c.namespaceGone("shop")
	if n := len(c.records()); n != 2 {
		c.Errorf("%d records, want 2: nobody has freed them", n)
	}
	c.start(options)
	c.holds("waits", "192.0.2.0")
	c.pooled("lan", "2/1/1 PoolReady")
}

// testForeground: a Service that is deleted after what it owns ends as any other.
func (c *cluster) testForeground() {
	c.pool("lan", "192.0.2.0/32")
	c.start(options)
	c.service("web", selecting("web"))
	c.holds("web", "192.0.2.0")
	c.slices("web", 1)
	foreground := metav1.DeletePropagationForeground
	c.must(c.Kube.CoreV1().Services("default").Delete(c.Context(), "web", metav1.DeleteOptions{PropagationPolicy: &foreground}))
	c.gone("web")
	c.slices("web", 0)
	c.noRecords()
}

// testAggregation: who has Kubernetes' roles view and edit sees fairlead's kinds, and
// who has admin changes pools.
func (c *cluster) testAggregation() {
	c.roles("view", "admin")
	bind := c.Kube.RbacV1().ClusterRoleBindings()
	for _, role := range []string{"view", "edit", "admin"} {
		_, err := bind.Create(c.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "usual-" + role}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "usual-" + role}},
		}, metav1.CreateOptions{})
		c.must(err)
		c.Cleanup(func() { c.must(bind.Delete(context.Background(), "usual-"+role, metav1.DeleteOptions{})) })
	}
	may := func(who, verb, what string) error {
		out, err := server.Kubectl(c.Context(), "auth", "can-i", verb, what+".fairlead.io", "--as=usual-"+who)
		if err != nil {
			return fmt.Errorf("%s may not %s %s: %s", who, verb, what, out)
		}
		return nil
	}
	c.eventually("the aggregated roles", func() error {
		return errors.Join(may("view", "list", "addresspools"), may("edit", "list", "addresses"), may("admin", "create", "addresspools"), may("admin", "list", "nodestates"))
	})
	if may("edit", "create", "addresspools") == nil || may("admin", "delete", "addresses") == nil {
		c.Error("the aggregated roles allow more than they are to")
	}
}

// testChartPods: what the chart installs becomes pods: an agent on every Linux node,
// whatever taints it has, and the controllers. They go with the DaemonSet and the
// Deployment.
func (c *cluster) testChartPods() {
	for name, taint := range map[string]string{"n1": "example.com/own", "n2": uninitialized} {
		n := c.node(name, "", corev1.Taint{Key: taint, Value: "true", Effect: corev1.TaintEffectNoSchedule})
		c.patchNode(n.Name, `{"metadata":{"labels":{"kubernetes.io/os":"linux"}}}`)
	}
	c.node("w1", "")
	c.patchNode("w1", `{"metadata":{"labels":{"kubernetes.io/os":"windows"}}}`)
	c.install("default")
	c.podsOf("controller,controller,n1,n2")
	c.eventually("the authority of the pods' API server", func() error {
		_, err := c.Kube.CoreV1().ConfigMaps(release).Get(c.Context(), "kube-root-ca.crt", metav1.GetOptions{})
		return err
	})
	c.must(c.Kube.AppsV1().DaemonSets(release).Delete(c.Context(), "fairlead-agent", metav1.DeleteOptions{}))
	c.podsOf("controller,controller")
	c.must(c.Kube.AppsV1().Deployments(release).Delete(c.Context(), "fairlead-controller", metav1.DeleteOptions{}))
	c.podsOf("")
}

// podsOf waits until these are the nodes that agents' pods are for, and one
// "controller" for each of the controllers'.
func (c *cluster) podsOf(want string) {
	c.Helper()
	c.eventually("pods of the chart", func() error {
		// Not those of hooks.
		pods, err := c.Kube.CoreV1().Pods(release).List(c.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/component in (controller,agent)"})
		c.must(err)
		got := make([]string, len(pods.Items))
		for i, p := range pods.Items {
			got[i] = "controller"
			if metav1.GetControllerOf(&p).Kind == "DaemonSet" {
				got[i] = p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchFields[0].Values[0]
			}
		}
		slices.Sort(got)
		if strings.Join(got, ",") != want {
			return fmt.Errorf("%q, want %s; %s", got, want, c.stuck())
		}
		return nil
	})
}

// stuck tells what the DaemonSet and the ReplicaSets say.
func (c *cluster) stuck() string {
	list, err := c.Kube.CoreV1().Events(release).List(c.Context(), metav1.ListOptions{})
	c.must(err)
	var out []string
	for _, e := range list.Items {
		if e.Type == corev1.EventTypeWarning {
			out = append(out, e.Message)
		}
	}
	return strings.Join(out, "; ")
}

// namespace makes one that is gone, or on its way, at the end of the test.
func (c *cluster) namespace(name string) {
	c.Helper()
	_, err := c.Kube.CoreV1().Namespaces().Create(c.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	c.must(err)
	c.Cleanup(func() {
		c.mustUnless(apierrors.IsNotFound, c.Kube.CoreV1().Namespaces().Delete(context.Background(), name, metav1.DeleteOptions{}))
	})
}

func (c *cluster) namespaceGone(name string) {
	c.Helper()
	c.eventually("end of namespace "+name, func() error {
		ns, err := c.Kube.CoreV1().Namespaces().Get(c.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(fmt.Errorf("it is still there: %+v", ns.Status), err)
	})
}
