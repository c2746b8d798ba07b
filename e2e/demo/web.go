package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/probe"
)

// Replicas is how many pods examples/web.yaml asks for.
const Replicas = 6

// visitor is a pod that calls the Service from inside the cluster.
const visitor = "visitor"

// Service is what the cluster made of examples/web.yaml.
type Service struct {
	ExternalIP string
	ClusterIP  string
	NodePort   int
}

// Deploy applies the examples below root and waits until their address
// answers with every pod.
func Deploy(ctx context.Context, l *lab.Lab, root string) (Service, error) {
	step := l.Progress().Begin("examples: pool, 6 web servers, Service of type LoadBalancer")
	s, err := deploy(ctx, l, root, step)
	return s, step.Done(err)
}

func deploy(ctx context.Context, l *lab.Lab, root string, step *lab.Step) (Service, error) {
	var s Service
	for _, file := range []string{"pool.yaml", "web.yaml"} {
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
	if _, err := l.Kubectl(ctx, "wait", "--for=jsonpath={.status.loadBalancer.ingress[0].ip}", "service/web", "--timeout=1m"); err != nil {
		return s, fmt.Errorf("the Service got no EXTERNAL-IP; its conditions: %s: %w", conditions(ctx, l), err)
	}
	s, err := readService(ctx, l)
	if err != nil {
		return s, err
	}
	step.Waiting("%s to answer with all pods", s.ExternalIP)
	return s, settle(ctx, l, s)
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
	there, err := l.Kubectl(ctx, "get", "pod", visitor, "--ignore-not-found", "-o", "name")
	if err != nil || len(there) > 0 {
		return err
	}
	_, err = l.Kubectl(ctx, "run", visitor, "--image="+lab.HelloImage, "--image-pull-policy=IfNotPresent")
	return err
}

func waitPods(ctx context.Context, l *lab.Lab, step *lab.Step) error {
	for _, args := range [][]string{
		{"rollout", "status", "deployment/web", "--timeout=3m"},
		{"rollout", "status", "deployment/coredns", "--namespace=kube-system", "--timeout=3m"},
		{"wait", "--for=condition=Ready", "pod/" + visitor, "--timeout=3m"},
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
			ClusterIP string
			Ports     []struct{ NodePort int }
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
	return Service{
		ExternalIP: object.Status.LoadBalancer.Ingress[0].IP,
		ClusterIP:  object.Spec.ClusterIP,
		NodePort:   object.Spec.Ports[0].NodePort,
	}, nil
}

// settle waits until the address answers with all pods. An announcement and
// the last endpoint take a moment to arrive everywhere; what is measured
// afterwards has no such excuse.
func settle(ctx context.Context, l *lab.Lab, s Service) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		r, err := l.Probe(ctx, lab.Client, "http://"+s.ExternalIP+"/", "-n=60", "-c=20", "-timeout=500ms")
		if err != nil {
			return err
		}
		if r.Failures == 0 && r.Distinct == Replicas {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s does not answer with all pods: %s", s.ExternalIP, describe(r))
		}
	}
}

func describe(r probe.Report) string {
	return fmt.Sprintf("%d of %d requests failed %v, %d of %d pods answered", r.Failures, r.Requests, r.Reasons, r.Distinct, Replicas)
}
