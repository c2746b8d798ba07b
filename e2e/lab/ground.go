package lab

import (
	"context"
	"errors"
	"path/filepath"
	"syscall"
)

// ground is what a cluster stands on. The stories, and all of Lab that they use, are
// the same on each: the lab's own network namespaces, and hosts that somebody else
// made and described, such as containers of kind.
type ground interface {
	// enter is the command that runs a program on a host, to be followed by it.
	enter(host string) ([]string, error)
	// lan is a node's addresses, bare; empty for no node or a family it has not.
	lan(node string) address
	// pods are the ranges of a node's pods, IPv4 first.
	pods(node string) []string
	// cgroup is the folder, on a node, below which the cgroups v2 of its pods are and
	// no other node's.
	cgroup(node string) string
	// kubeconfig is a file, api where the agents reach the API server.
	kubeconfig() string
	api() (host string, port int)
	// load brings an image archive to every node.
	load(ctx context.Context, archive string) error

	powerOff(ctx context.Context, node string) error
	powerOn(ctx context.Context, node string) error
	freeze(ctx context.Context, node string, frozen bool) error
	runs(ctx context.Context, node string) bool
	// startAPI and stopAPI are of the API server with what needs it.
	startAPI(ctx context.Context) error
	stopAPI(ctx context.Context) error
	apiRuns(ctx context.Context) bool
	// start starts fairlead on a node with nothing around it, stop kills it.
	start(ctx context.Context, node string, command []string) error
	stop(ctx context.Context, node string) error
}

func (l *Lab) ground() ground {
	if l.described != nil {
		return l.described
	}
	return namespaces{l}
}

// namespaces is the ground of a Lab that Up made.
type namespaces struct{ *Lab }

func (s namespaces) enter(host string) ([]string, error) { return s.Lab.enter(host) }
func (s namespaces) kubeconfig() string                  { return s.pki("admin.kubeconfig") }
func (s namespaces) api() (string, int)                  { return APIHost, APIPort }

func (s namespaces) cgroup(name string) string {
	return filepath.Join(unifiedRoot(), node{name: name}.cgroup())
}

func (s namespaces) lan(name string) address {
	n, err := s.node(name)
	if err != nil {
		return address{}
	}
	return n.lan().bare()
}

func (s namespaces) pods(name string) []string {
	n, err := s.node(name)
	if err != nil {
		return nil
	}
	if r, ok := s.cni().(ranger); ok {
		return r.blocks(context.Background(), s.Lab, n)
	}
	return []string{n.pods().v4, n.pods().v6}
}

func (s namespaces) load(ctx context.Context, archive string) error {
	tasks := make([]func(context.Context) error, len(s.nodes))
	for i, n := range s.nodes {
		tasks[i] = func(ctx context.Context) error { return s.importInto(ctx, n, archive) }
	}
	return together(ctx, tasks...)
}

// powerOff takes the link down first, then every process, then the namespace with
// the kernel state in it.
func (s namespaces) powerOff(ctx context.Context, name string) error {
	n, err := s.node(name)
	if err != nil {
		return err
	}
	if err := ipBatch(ctx, lanNamespace, "link set "+name+" down"); err != nil {
		return err
	}
	if err := s.signal(name, syscall.SIGKILL); err != nil {
		return err
	}
	if err := thaw(n.cgroup()); err != nil { // a frozen process dies when it thaws
		return err
	}
	if err := s.Lab.stop(ctx, name); err != nil {
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

func (s namespaces) powerOn(ctx context.Context, name string) error {
	n, err := s.node(name)
	if err != nil {
		return err
	}
	if err := s.buildNodeLinks(ctx, n); err != nil {
		return err
	}
	if err := s.Lab.powerOn(ctx, n); err != nil {
		return err
	}
	return s.startKubelet(n)
}

func (s namespaces) freeze(_ context.Context, name string, frozen bool) error {
	if frozen {
		return s.onCgroup(name, freeze)
	}
	return s.onCgroup(name, thaw)
}

func (s namespaces) runs(_ context.Context, name string) bool {
	_, ok := s.running(name)
	return ok
}

func (s namespaces) apiRuns(ctx context.Context) bool { return s.runs(ctx, apiServer) }

// stopAPI also kills what would end by itself when it cannot renew its Lease.
func (s namespaces) stopAPI(ctx context.Context) error {
	var errs []error
	for _, name := range []string{apiServer, controllerManager, scheduler} {
		errs = append(errs, s.Lab.stop(ctx, name))
	}
	return errors.Join(errs...)
}

func (s namespaces) startAPI(ctx context.Context) error {
	if err := s.startProgram(apiServer, s.apiServerArgs()); err != nil {
		return err
	}
	if err := s.waitAPI(ctx); err != nil {
		return err
	}
	return s.startControllers()
}

func (s namespaces) start(_ context.Context, name string, command []string) error {
	n, err := s.node(name)
	if err != nil {
		return err
	}
	return s.startIn(n, "fairlead", command...)
}

func (s namespaces) stop(ctx context.Context, name string) error {
	return s.Lab.stop(ctx, name+"-fairlead")
}
