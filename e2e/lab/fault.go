package lab

import (
	"context"
	"fmt"
	"slices"
	"syscall"
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
	if err := freeze(n.cgroup(), false); err != nil { // a frozen process dies when it thaws
		return err
	}
	if err := l.stop(ctx, name); err != nil {
		return err
	}
	_, err = run(ctx, "ip", "netns", "del", n.netns())
	return err
}

// StartNode powers a stopped node on again, with the disk that it had, and
// waits until it is Ready.
func (l *Lab) StartNode(ctx context.Context, name string) error {
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
	if err := l.startKubelet(n); err != nil {
		return err
	}
	_, err = l.Kubectl(ctx, "wait", "--for=condition=Ready", "node/"+name, "--timeout=3m")
	return err
}

// FreezeNode stops every process of a node where it stands; its kernel goes on
// to answer and to forward. ThawNode lets them continue.
func (l *Lab) FreezeNode(name string) error { return l.setFrozen(name, true) }

// ThawNode ends FreezeNode.
func (l *Lab) ThawNode(name string) error { return l.setFrozen(name, false) }

func (l *Lab) setFrozen(name string, frozen bool) error {
	n, err := l.node(name)
	if err != nil {
		return err
	}
	if err := freeze(n.cgroup(), frozen); err != nil {
		return fmt.Errorf("freeze %s: %w", name, err)
	}
	return nil
}

// StopAPIServer kills the API server.
func (l *Lab) StopAPIServer(ctx context.Context) error { return l.stop(ctx, apiServer) }

// StartAPIServer starts it again and waits until it is ready.
func (l *Lab) StartAPIServer(ctx context.Context) error {
	if err := l.startOn(ControlPlane, apiServer, l.apiServerArgs()); err != nil {
		return err
	}
	return l.waitAPI(ctx)
}
