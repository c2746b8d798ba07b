package demo

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/probe"
)

// Replicas is how many pods examples/web.yaml asks for.
const Replicas = 6

// Visitor is a pod that calls the Service from inside the cluster.
const Visitor = "visitor"

// Service is what the cluster made of examples/web.yaml.
type Service struct {
	ExternalIPs []string // IPv4 first
	ClusterIPs  []string // IPv4 first
	NodePort    int
}

// Deploy applies the examples below root and waits until their addresses
// answer with every pod.
func Deploy(ctx context.Context, l *lab.Lab, root string) (Service, error) {
	return DeployIn(ctx, l, root, "pool.yaml")
}

// DeployIn is Deploy with a pool, and how it is announced, of another example.
func DeployIn(ctx context.Context, l *lab.Lab, root, pool string) (Service, error) {
	step := l.Progress().Begin("examples: pool, 6 web servers, dual-stack Service of type LoadBalancer")
	s, err := deploy(ctx, l, root, pool, step)
	return s, step.Done(err)
}

func deploy(ctx context.Context, l *lab.Lab, root, pool string, step *lab.Step) (Service, error) {
	var s Service
	for _, file := range []string{pool, "web.yaml"} {
		if _, err := l.Kubectl(ctx, "apply", "-f", filepath.Join(root, "examples", file)); err != nil {
			return s, err
		}
	}
	if err := startVisitor(ctx, l); err != nil {
		return s, err
	}
	if err := waitPods(ctx, l, step); err != nil {
		return s, err
	}
	step.Waiting("EXTERNAL-IP")
	if _, err := l.Kubectl(ctx, "wait", "--for=jsonpath={.status.loadBalancer.ingress[0].ip}", "service/web", "--timeout=3m"); err != nil {
		return s, fmt.Errorf("the Service got no EXTERNAL-IP; its conditions: %s: %w", conditions(ctx, l), err)
	}
	s, err := readService(ctx, l)
	if err != nil {
		return s, err
	}
	if len(s.ClusterIPs) != l.Families() || len(s.ExternalIPs) != l.Families() {
		return s, fmt.Errorf("the Service has not every family of the cluster: %+v; its conditions: %s", s, conditions(ctx, l))
	}
	step.Waiting("%s to answer with all pods", strings.Join(s.ExternalIPs, " and "))
	errs := make([]error, len(s.ExternalIPs))
	var asked sync.WaitGroup
	for i, ip := range s.ExternalIPs {
		asked.Go(func() { errs[i] = settle(ctx, l, ip) })
	}
	asked.Wait()
	return s, errors.Join(errs...)
}

// conditions is what fairlead says of the Service, on one line.
func conditions(ctx context.Context, l *lab.Lab) string {
	out, err := l.Kubectl(ctx, "get", "service", "web", "--output=jsonpath={range .status.conditions[*]}{.type}={.status} ({.reason}: {.message}) {end}")
	if err != nil || len(out) == 0 {
		return "none"
	}
	return strings.TrimSpace(string(out))
}

func startVisitor(ctx context.Context, l *lab.Lab) error {
	there, err := l.Kubectl(ctx, "get", "pod", Visitor, "--ignore-not-found", "-o", "name")
	if err != nil || len(there) > 0 {
		return err
	}
	_, err = l.Kubectl(ctx, "run", Visitor, "--image="+lab.HelloImage, "--image-pull-policy=IfNotPresent")
	return err
}

func waitPods(ctx context.Context, l *lab.Lab, step *lab.Step) error {
	for _, args := range [][]string{
		{"rollout", "status", "deployment/web", "--timeout=3m"},
		{"rollout", "status", "deployment/coredns", "--namespace=kube-system", "--timeout=3m"},
		{"wait", "--for=condition=Ready", "pod/" + Visitor, "--timeout=3m"},
	} {
		step.Waiting("kubectl %s %s", args[0], args[2])
		if _, err := l.Kubectl(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

func readService(ctx context.Context, l *lab.Lab) (Service, error) {
	out, err := l.Kubectl(ctx, "get", "service", "web", "-o", "json")
	if err != nil {
		return Service{}, err
	}
	return parseService(out)
}

func parseService(data []byte) (Service, error) {
	var object struct {
		Spec struct {
			ClusterIPs []string
			Ports      []struct{ NodePort int }
		}
		Status struct {
			LoadBalancer struct{ Ingress []struct{ IP string } }
		}
	}
	if err := json.Unmarshal(data, &object); err != nil {
		return Service{}, fmt.Errorf("service web: %w", err)
	}
	if len(object.Spec.Ports) == 0 || len(object.Status.LoadBalancer.Ingress) == 0 {
		return Service{}, errors.New("service web: no port or no EXTERNAL-IP")
	}
	s := Service{ClusterIPs: object.Spec.ClusterIPs, NodePort: object.Spec.Ports[0].NodePort}
	for _, in := range object.Status.LoadBalancer.Ingress {
		s.ExternalIPs = append(s.ExternalIPs, in.IP)
	}
	for _, ips := range [][]string{s.ClusterIPs, s.ExternalIPs} {
		slices.SortStableFunc(ips, func(a, b string) int { return cmp.Compare(family(a), family(b)) })
	}
	return s, nil
}

// settle waits until ip answers with all pods. An announcement and
// the last endpoint take a moment to arrive everywhere; what is measured
// afterwards has no such excuse.
//
// Pods that came last may still be on their way into the nodes' kernels when the
// first round is answered: it counts when several in a row are.
func settle(ctx context.Context, l *lab.Lab, ip string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for good := 0; ; {
		r, err := l.Probe(ctx, lab.Client, URL(ip, 80), "-n=60", "-c=4", "-i=20ms", "-timeout=500ms")
		if err != nil {
			return err
		}
		good++
		if r.Failures > 0 || r.Distinct < Replicas {
			good = 0
		}
		if good == 5 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s does not answer with all pods: %s", ip, describe(r))
		}
	}
}

func describe(r probe.Report) string {
	return fmt.Sprintf("%d of %d requests failed %v, %d of %d pods answered", r.Failures, r.Requests, r.Reasons, r.Distinct, Replicas)
}
