package controller_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
)

// rostered makes a large cluster. What the shipped controller keeps of its Nodes is
// enough for an agent with the rights of its account, which reads no Node itself. When the
// cluster is small again, the agent reads the Nodes.
func (c *cluster) rostered() {
	c.Helper()
	const nodes = 60
	name := func(i int) string { return fmt.Sprintf("large-%02d", i) }
	for i := range nodes {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name(i)}, Spec: corev1.NodeSpec{PodCIDR: fmt.Sprintf("10.9.%d.0/24", i), PodCIDRs: []string{fmt.Sprintf("10.9.%d.0/24", i)}}}
		_, err := c.Kube.CoreV1().Nodes().Create(c.Context(), n, metav1.CreateOptions{})
		c.must(err)
	}
	c.eventually("the roster", func() error {
		head, err := c.Kube.CoreV1().ConfigMaps(release).Get(c.Context(), kube.RosterHead, metav1.GetOptions{})
		if err == nil && head.Data["nodes"] != fmt.Sprint(nodes) {
			err = fmt.Errorf("its head says %v", head.Data)
		}
		return err
	})
	said := &lines{}
	store, stop := c.follow(said)
	defer stop()
	c.patchNode(name(7), `{"metadata":{"labels":{"fairlead.test/seen":"yes"}}}`)
	began := time.Now()
	c.eventually("the label", func() error {
		for _, n := range store.Nodes() {
			if n.Name == name(7) && n.Labels["fairlead.test/seen"] == "yes" && len(n.PodCIDRs) == 1 {
				return nil
			}
		}
		return fmt.Errorf("it is not on any of %d Nodes", len(store.Nodes()))
	})
	c.Logf("the agent had the label after %s", time.Since(began))
	if text := said.String(); strings.Contains(text, "the Nodes themselves") || !strings.Contains(text, "the roster of the Nodes") {
		c.Errorf("the agent says\n%s", text)
	}
	for i := range nodes {
		c.must(c.Kube.CoreV1().Nodes().Delete(c.Context(), name(i), metav1.DeleteOptions{}))
	}
	c.eventually("the end of the roster", func() error {
		list, err := c.Kube.CoreV1().ConfigMaps(release).List(c.Context(), metav1.ListOptions{LabelSelector: kube.RosterLabel})
		if n := len(store.Nodes()); err == nil && len(list.Items)+n > 0 {
			err = fmt.Errorf("%d ConfigMaps are left, and the agent has %d Nodes", len(list.Items), n)
		}
		return err
	})
}

// follow follows the cluster as an agent of the chart does, until stop.
func (c *cluster) follow(said *lines) (store *kube.Store, stop func()) {
	c.Helper()
	kubeconfig, servers := c.identity("fairlead-agent")
	clients, err := kube.Connect(kube.Access{Kubeconfig: kubeconfig, Servers: servers, UserAgent: "test"})
	c.must(err)
	store = kube.NewStore(clients, func() {})
	store.WithoutNodeStates, store.Roster, store.Log = true, release, slog.New(slog.NewTextHandler(said, nil))
	ctx, cancel := context.WithCancel(c.Context())
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx) }()
	c.eventually("the store", func() error {
		if !store.Synced() {
			return fmt.Errorf("not synced")
		}
		return nil
	})
	return store, func() { cancel(); c.must(<-done) }
}

// lines is text that several goroutines write.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// testInstallationEnds: the NodeStates, which no chart owns, go with the namespace of the
// installation.
func (c *cluster) testInstallationEnds() {
	c.namespace("installed")
	ns, err := c.Kube.CoreV1().Namespaces().Get(c.Context(), "installed", metav1.GetOptions{})
	c.must(err)
	_, err = c.NodeStates.Create(c.Context(), &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{
		Name: "left", OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Namespace", Name: ns.Name, UID: ns.UID}},
	}}, metav1.CreateOptions{})
	c.must(err)
	c.must(c.Kube.CoreV1().Namespaces().Delete(c.Context(), "installed", metav1.DeleteOptions{}))
	c.eventually("the end of the NodeState", func() error {
		_, err := c.NodeStates.Get(c.Context(), "left", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is still there: %w", err)
	})
}
