// Package retire takes out of the API what the controller and the agents put
// there and no chart owns, once both are gone. Pools, and the record of who holds
// which address, stay: an installation that follows goes on with them.
package retire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/keyring"
	"github.com/fairlead/fairlead/internal/kube"
)

// Options say where fairlead ran.
type Options struct {
	Namespace string
	Lease     string // of the controllers
}

// Report counts what was taken out.
type Report struct {
	Services   int // that had a finalizer of fairlead's
	NodeStates int
}

// ErrRuns is that fairlead is still installed. Nothing has been taken out then.
var ErrRuns = errors.New("fairlead is still installed")

// ofFairlead selects the chart's objects and pods, in whatever namespace.
var ofFairlead = metav1.ListOptions{LabelSelector: "app.kubernetes.io/part-of=fairlead"}

// stillRuns returns an ErrRuns that names what runs fairlead in this cluster, nil if
// nothing does. Agents whose keys and NodeStates are deleted lose each other.
func stillRuns(ctx context.Context, clients *kube.Clients) error {
	var running []string
	agents, err := clients.Kube.AppsV1().DaemonSets("").List(ctx, ofFairlead)
	if err != nil {
		return fmt.Errorf("list DaemonSets: %w", err)
	}
	for i := range agents.Items {
		running = append(running, "DaemonSet "+agents.Items[i].Namespace+"/"+agents.Items[i].Name)
	}
	controllers, err := clients.Kube.AppsV1().Deployments("").List(ctx, ofFairlead)
	if err != nil {
		return fmt.Errorf("list Deployments: %w", err)
	}
	for i := range controllers.Items {
		running = append(running, "Deployment "+controllers.Items[i].Namespace+"/"+controllers.Items[i].Name)
	}
	pods, err := clients.Kube.CoreV1().Pods("").List(ctx, ofFairlead)
	if err != nil {
		return fmt.Errorf("list Pods: %w", err)
	}
	for i := range pods.Items {
		if p := &pods.Items[i]; p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			running = append(running, "Pod "+p.Namespace+"/"+p.Name)
		}
	}
	if len(running) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s. Uninstall it first, and wait until its pods have ended", ErrRuns, strings.Join(running, ", "))
}

// Cluster takes it out, unless fairlead is still installed: then it returns ErrRuns. It
// continues after an error, and may be called again.
func Cluster(ctx context.Context, clients *kube.Clients, opt Options) (Report, error) {
	var r Report
	var problems []error
	if err := stillRuns(ctx, clients); err != nil {
		return r, err
	}
	services, err := clients.Kube.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return r, fmt.Errorf("list Services: %w", err)
	}
	for i := range services.Items {
		svc := &services.Items[i]
		left := without(svc)
		if len(left) == len(svc.Finalizers) {
			continue
		}
		if err := release(ctx, clients, svc, left); err != nil {
			problems = append(problems, fmt.Errorf("service %s/%s: %w", svc.Namespace, svc.Name, err))
			continue
		}
		r.Services++
	}
	n, err := nodeStates(ctx, clients)
	r.NodeStates = n
	problems = append(problems, err,
		unlessGone("secret "+keyring.Secret, clients.Kube.CoreV1().Secrets(opt.Namespace).Delete(ctx, keyring.Secret, metav1.DeleteOptions{})),
		unlessGone("roster of the Nodes", roster(ctx, clients, opt.Namespace)),
		unlessGone("lease "+opt.Lease, clients.Kube.CoordinationV1().Leases(opt.Namespace).Delete(ctx, opt.Lease, metav1.DeleteOptions{})))
	return r, errors.Join(problems...)
}

// without returns svc's finalizers but for those that fairlead put there.
// Kubernetes' own is ours only on a class-less Service that we marked.
func without(svc *corev1.Service) []string {
	marked := svc.Spec.LoadBalancerClass == nil && slices.ContainsFunc(svc.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == v1alpha1.ConditionAddressAssigned
	})
	return slices.DeleteFunc(slices.Clone(svc.Finalizers), func(f string) bool {
		return f == v1alpha1.FinalizerClassed || f == v1alpha1.FinalizerClassless && marked
	})
}

// release writes the finalizers that are left.
func release(ctx context.Context, clients *kube.Clients, svc *corev1.Service, left []string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"finalizers": left, "resourceVersion": svc.ResourceVersion}})
	if err != nil {
		return err
	}
	_, err = clients.Kube.CoreV1().Services(svc.Namespace).Patch(ctx, svc.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return unlessGone("finalizer", err)
}

func nodeStates(ctx context.Context, clients *kube.Clients) (int, error) {
	list, err := clients.NodeStates.List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, unlessGone("list NodeStates", err)
	}
	var problems []error
	n := 0
	for i := range list.Items {
		name := list.Items[i].Name
		if err := unlessGone("node state "+name, clients.NodeStates.Delete(ctx, name, metav1.DeleteOptions{})); err != nil {
			problems = append(problems, err)
			continue
		}
		n++
	}
	return n, errors.Join(problems...)
}

// roster deletes what the controller keeps of the Nodes.
func roster(ctx context.Context, clients *kube.Clients, namespace string) error {
	maps := clients.Kube.CoreV1().ConfigMaps(namespace)
	list, err := maps.List(ctx, metav1.ListOptions{LabelSelector: kube.RosterLabel})
	if err != nil {
		return err
	}
	var problems []error
	for i := range list.Items {
		name := list.Items[i].Name
		problems = append(problems, unlessGone(name, maps.Delete(ctx, name, metav1.DeleteOptions{})))
	}
	return errors.Join(problems...)
}

// unlessGone wraps err, nil if the object is not there.
func unlessGone(what string, err error) error {
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
