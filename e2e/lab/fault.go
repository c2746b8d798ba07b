package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"
)

func (l *Lab) node(name string) (node, error) {
	i := slices.IndexFunc(l.nodes, func(n node) bool { return n.name == name })
	if i < 0 {
		return node{}, fmt.Errorf("no node %q", name)
	}
	return l.nodes[i], nil
}

// StopNode cuts a node's power: its link goes down and every process of it
// dies at once. Its kernel state goes with its namespace.
func (l *Lab) StopNode(ctx context.Context, name string) error {
	n, err := l.node(name)
	if err != nil {
		return err
	}
	if err := ipBatch(ctx, lanNamespace, "link set "+name+" down"); err != nil {
		return err
	}
	if err := l.signal(name, syscall.SIGKILL); err != nil {
		return err
	}
	if err := thaw(n.cgroup()); err != nil { // a frozen process dies when it thaws
		return err
	}
	if err := l.stop(ctx, name); err != nil {
		return err
	}
	// The kernel takes its time to clear a namespace; the link must be gone
	// when the node starts again.
	if err := ipBatch(ctx, lanNamespace, "link del "+name); err != nil {
		return err
	}
	if _, err = run(ctx, "ip", "netns", "del", n.netns()); err != nil {
		return err
	}
	// The next kubelet would spend seconds on each group of a dead pod.
	return removeCgroups(ctx, n.cgroup())
}

// StartNode powers a stopped node on again, with the disk that it had, and
// waits until it is Ready.
func (l *Lab) StartNode(ctx context.Context, name string) error {
	began := time.Now()
	if err := l.PowerOnNode(ctx, name); err != nil {
		return err
	}
	return l.WaitNode(ctx, name, began)
}

// PowerOnNode is StartNode without the wait, for when no API server answers.
func (l *Lab) PowerOnNode(ctx context.Context, name string) error {
	n, err := l.node(name)
	if err != nil {
		return err
	}
	if err := l.buildNodeLinks(ctx, n); err != nil {
		return err
	}
	if err := l.powerOn(ctx, n); err != nil {
		return err
	}
	return l.startKubelet(n)
}

// WaitNode waits until the kubelet has renewed its Lease since began and the
// Node is Ready: the API server calls a node Ready for some time after it died.
func (l *Lab) WaitNode(ctx context.Context, name string, began time.Time) error {
	err := Until(ctx, 2*time.Minute, "kubelet of "+name, func(ctx context.Context) error {
		out, err := l.Kubectl(ctx, "get", "lease", name, "--namespace=kube-node-lease", "--output=jsonpath={.spec.renewTime}")
		if err != nil {
			return err
		}
		renewed, err := time.Parse(time.RFC3339Nano, string(out))
		if err == nil && renewed.Before(began) {
			return fmt.Errorf("last heard of at %s", out)
		}
		return err
	})
	if err != nil {
		return err
	}
	_, err = l.Kubectl(ctx, "wait", "--for=condition=Ready", "node/"+name, "--timeout=3m")
	return err
}

// FreezeNode stops every process of a node where it stands; its kernel goes on
// to answer and to forward. ThawNode lets them continue.
func (l *Lab) FreezeNode(name string) error { return l.onCgroup(name, freeze) }

// ThawNode ends FreezeNode.
func (l *Lab) ThawNode(name string) error { return l.onCgroup(name, thaw) }

func (l *Lab) onCgroup(name string, act func(string) error) error {
	n, err := l.node(name)
	if err != nil {
		return err
	}
	if err := act(n.cgroup()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// StartFairlead starts a program of fairlead, of the image that is installed,
// on a node without a container around it; StopFairlead kills it. Its log is
// NODE-fairlead.log.
func (l *Lab) StartFairlead(name string, args ...string) error {
	n, err := l.node(name)
	if err != nil {
		return err
	}
	return l.startIn(n, "fairlead", append([]string{l.binary("fairlead")}, args...)...)
}

// StopFairlead ends StartFairlead.
func (l *Lab) StopFairlead(ctx context.Context, name string) error {
	return l.stop(ctx, name+"-fairlead")
}

// APIServerRuns tells whether StopAPIServer's work is undone.
func (l *Lab) APIServerRuns() bool {
	_, ok := l.running(apiServer)
	return ok
}

// NodeRuns tells whether the node has power.
func (l *Lab) NodeRuns(name string) bool {
	_, ok := l.running(name)
	return ok
}

// StopAPIServer kills the API server, and with it what would end by itself when
// it cannot renew its Lease.
func (l *Lab) StopAPIServer(ctx context.Context) error {
	var errs []error
	for _, name := range []string{apiServer, controllerManager, scheduler} {
		errs = append(errs, l.stop(ctx, name))
	}
	return errors.Join(errs...)
}

// StartAPIServer starts them again and waits until the API server is ready.
func (l *Lab) StartAPIServer(ctx context.Context) error {
	if err := l.startProgram(apiServer, l.apiServerArgs()); err != nil {
		return err
	}
	if err := l.waitAPI(ctx); err != nil {
		return err
	}
	return l.startControllers()
}
