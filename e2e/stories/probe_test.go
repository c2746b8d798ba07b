package stories

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/probe"
)

// settled is how long a change may take to arrive everywhere.
const settled = 5 * time.Minute

// hostAsks probes from a host of the lab.
func hostAsks(t *testing.T, host, target string, args ...string) probe.Report {
	t.Helper()
	r, err := cluster(t).Probe(t.Context(), host, target, args...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// podAsks probes from a pod.
func podAsks(t *testing.T, p lab.Pod, target string, args ...string) probe.Report {
	t.Helper()
	var r probe.Report
	inPod(t, p, &r, append(append([]string{"probe"}, args...), target)...)
	return r
}

// podLooksUp resolves a name in a pod.
func podLooksUp(t *testing.T, p lab.Pod, name string) probe.Name {
	t.Helper()
	var n probe.Name
	inPod(t, p, &n, "lookup", name)
	return n
}

// inPod runs the pod's hello and reads the JSON that it prints.
func inPod(t *testing.T, p lab.Pod, v any, args ...string) {
	t.Helper()
	cmd, err := cluster(t).PodCommand(t.Context(), p, append([]string{"/hello"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Fatalf("hello %q in %s: %v: %s", args, p.Name, err, exit.Stderr)
	}
	if err := json.Unmarshal(out, v); err != nil {
		t.Fatalf("hello %q in %s: %v: %q", args, p.Name, err, out)
	}
}

// answersTo waits until target answers every request of host, by so many pods.
func answersTo(t *testing.T, host, target string, pods int) {
	t.Helper()
	l := cluster(t)
	eventually(t, settled, target+" to answer "+host, func(ctx context.Context) error {
		r, err := l.Probe(ctx, host, target, "-n=60", "-c=10", "-timeout=1s")
		if err != nil {
			return err
		}
		return objection(r, pods)
	})
}

// objection is why not all requests were answered, by so many pods.
func objection(r probe.Report, pods int) error {
	if r.Failures == 0 && r.Distinct == pods {
		return nil
	}
	when := ""
	if r.Failures > 0 {
		when = fmt.Sprintf(" from %s to %s", r.FirstFailure.Format(time.StampMilli), r.LastFailure.Format(time.StampMilli))
	}
	return fmt.Errorf("%s: %d of %d requests failed %v%s, %d pods answered, want %d: %v", r.Target, r.Failures, r.Requests, r.Reasons, when, r.Distinct, pods, r.Pods)
}

// wantAll fails the story unless all requests were answered, by so many pods.
func wantAll(t *testing.T, r probe.Report, pods int) {
	t.Helper()
	if err := objection(r, pods); err != nil {
		t.Error(err)
	}
}

// wantNone fails the story if any request was answered, or failed for another
// reason.
func wantNone(t *testing.T, r probe.Report, reason string) {
	t.Helper()
	if r.Failures != r.Requests || r.Reasons[reason] != r.Failures {
		t.Errorf("%s: want only %q; of %d requests failed %d: %v", r.Target, reason, r.Requests, r.Failures, r.Reasons)
	}
}

// pods waits until so many pods are ready.
func pods(t *testing.T, namespace, selector string, count int) []lab.Pod {
	t.Helper()
	l := cluster(t)
	var found []lab.Pod
	eventually(t, 2*time.Minute, "pods "+selector, func(ctx context.Context) error {
		var err error
		if found, err = l.Pods(ctx, namespace, selector); err != nil {
			return err
		}
		ready := 0
		for _, p := range found {
			if p.Ready {
				ready++
			}
		}
		if ready != count || len(found) != count {
			return fmt.Errorf("%d of %d pods are ready, want %d", ready, len(found), count)
		}
		return nil
	})
	return found
}

// externalIP waits for the address of a Service.
func externalIP(t *testing.T, service string) string {
	t.Helper()
	return kubectl(t, "wait", "service/"+service, "--for=jsonpath={.status.loadBalancer.ingress[0].ip}", "--timeout=5m",
		"--output=jsonpath={.status.loadBalancer.ingress[0].ip}")
}

// get reads a URL on a host.
func get(ctx context.Context, l *lab.Lab, host string, args ...string) (string, error) {
	out, err := l.Exec(ctx, host, append([]string{l.Hello(), "get"}, args...)...)
	return string(out), err
}
