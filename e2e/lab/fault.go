package lab

import (
	"context"
	"fmt"
	"slices"
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
	return l.ground().powerOff(ctx, name)
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
	return l.ground().powerOn(ctx, name)
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
func (l *Lab) FreezeNode(name string) error {
	return l.ground().freeze(context.Background(), name, true)
}

// ThawNode ends FreezeNode.
func (l *Lab) ThawNode(name string) error {
	return l.ground().freeze(context.Background(), name, false)
}

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
	return l.ground().start(context.Background(), name, append([]string{l.binary("fairlead")}, args...))
}

// StopFairlead ends StartFairlead.
func (l *Lab) StopFairlead(ctx context.Context, name string) error {
	return l.ground().stop(ctx, name)
}

// APIServerRuns reports whether StopAPIServer's work is undone.
func (l *Lab) APIServerRuns() bool { return l.ground().apiRuns(context.Background()) }

// NodeRuns reports whether the node has power.
func (l *Lab) NodeRuns(name string) bool { return l.ground().runs(context.Background(), name) }

// StopAPIServer kills the API server, and with it what would end by itself when
// it cannot renew its Lease.
func (l *Lab) StopAPIServer(ctx context.Context) error { return l.ground().stopAPI(ctx) }

// StartAPIServer starts them again and waits until the API server is ready.
func (l *Lab) StartAPIServer(ctx context.Context) error { return l.ground().startAPI(ctx) }
