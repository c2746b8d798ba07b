// Package lab makes a real Kubernetes cluster on one Linux machine, without
// containers around it: every host is a network namespace, every program the
// real one. It has a control plane, nodes, a client on their LAN, and another
// behind a router. All that it makes carries the prefix "fllab-" or lies in its
// state directory, and Down removes that and nothing else.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Options of a lab. The zero value is three nodes without a proxy.
type Options struct {
	Nodes      int       // 3 if zero
	Fairlead   bool      // build fairlead with the programs, so that InstallFairlead is quick and a broken build is said early
	KubeProxy  bool      // start kube-proxy on the nodes: nothing else serves Services until fairlead is installed
	CNI        string    // one of CNIs; empty for links and routes of the lab's own
	Kubernetes string    // minor version of an older Kubernetes, such as 1.29, that programs/ has; its newest if empty
	Services   string    // IPv4 range of the Services; 198.19.0.0/16 if empty
	Source     string    // the e2e directory; found from the working directory if empty
	State      string    // $FAIRLEAD_LAB_STATE or /var/lib/fairlead-lab if empty
	Cache      string    // $FAIRLEAD_LAB_CACHE or /var/cache/fairlead-lab if empty
	Out        io.Writer // progress; os.Stderr if nil
}

// Lab is a running cluster, or what is left of one.
type Lab struct {
	opt       Options
	state     state
	lock      *lock
	nodes     []node
	programs  map[string]string // paths by name
	progress  *Progress
	built     bool         // fairlead, by this very Lab
	described *Description // nil for a Lab that Up made
}

// downLimit bounds a tear-down, which must happen after an interrupt too.
const downLimit = 2 * time.Minute

func newLab(opt Options) *Lab {
	if opt.Nodes == 0 {
		opt.Nodes = 3
	}
	if opt.Services == "" {
		opt.Services = serviceIPv4
	}
	if opt.State == "" {
		opt.State = string(defaultState())
	}
	if opt.Cache == "" {
		opt.Cache = defaultCache()
	}
	if opt.Out == nil {
		opt.Out = os.Stderr
	}
	return &Lab{opt: opt, state: state(opt.State), nodes: nodes(opt.Nodes), progress: NewProgress(opt.Out)}
}

// findSource walks up from the working directory to the e2e directory.
func findSource() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		for _, candidate := range []string{d, filepath.Join(d, "e2e")} {
			if _, err := os.Stat(filepath.Join(candidate, "programs", "cluster", "go.mod")); err == nil {
				return candidate, nil
			}
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("no fairlead checkout at or above %s", dir)
		}
	}
}

// Up brings up a lab, after it has removed what a crashed one left. It fails
// if a lab is up. On failure it removes what it made; the logs stay.
func Up(ctx context.Context, opt Options) (*Lab, error) {
	l := newLab(opt)
	if err := l.claim(ctx); err != nil {
		l.Close()
		return nil, err
	}
	if err := l.up(ctx); err != nil {
		if _, ok := l.running(apiServer); ok && ctx.Err() == nil {
			l.Collect(ctx)
		}
		err = errors.Join(fmt.Errorf("lab up: %w; logs are in %s", err, l.state.logs()), l.Down(context.WithoutCancel(ctx)))
		l.Close()
		return nil, err
	}
	return l, nil
}

// claim takes the lock and clears the ground.
func (l *Lab) claim(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("the lab makes network namespaces: run it as root")
	}
	if err := l.findSource(); err != nil {
		return err
	}
	if err := l.checkCNI(); err != nil {
		return err
	}
	var err error
	if l.lock, err = acquire(); err != nil {
		return err
	}
	if l.healthy() {
		return errors.New(`a lab is up already; "lab down" removes it`)
	}
	if l.state.exists() {
		l.progress.Say("removing what an earlier lab left")
		return l.remove(ctx)
	}
	return refuseOtherLab(l.state)
}

// refuseOtherLab protects a lab that was made with another state directory.
func refuseOtherLab(s state) error {
	found, err := filepath.Glob(filepath.Join(netnsDir, prefix+"*"))
	if err == nil && len(found) > 0 {
		err = fmt.Errorf(`there is a lab that %s knows nothing of (%s); "lab down" removes it`, s, found[0])
	}
	return err
}

func (l *Lab) findSource() error {
	if l.opt.Source != "" {
		return nil
	}
	var err error
	l.opt.Source, err = findSource()
	return err
}

// healthy reports whether a whole lab is up in this state directory.
func (l *Lab) healthy() bool {
	was, err := l.state.load()
	if err != nil || !was.Ready {
		return false
	}
	_, ok := l.running("etcd")
	return ok
}

func (l *Lab) up(ctx context.Context) error {
	if err := l.state.prepare(); err != nil {
		return err
	}
	if err := l.prerequisites(ctx); err != nil {
		return err
	}
	if err := l.writePKI(); err != nil {
		return err
	}
	if err := l.buildTopology(ctx); err != nil {
		return err
	}
	if err := l.boot(ctx); err != nil {
		return err
	}
	return l.save(true)
}

func (l *Lab) prerequisites(ctx context.Context) error {
	if err := installPackages(ctx, l.progress, l.packages()); err != nil {
		return err
	}
	if err := l.Build(ctx); err != nil {
		return err
	}
	if l.opt.Fairlead {
		if err := l.buildFairlead(ctx); err != nil {
			return err
		}
	}
	return l.save(false)
}

// Build makes the programs of the lab, as far as the cache lacks them.
func (l *Lab) Build(ctx context.Context) error {
	if err := l.findSource(); err != nil {
		return err
	}
	if err := l.checkCNI(); err != nil {
		return err
	}
	list := wholeCluster(l.opt.Kubernetes, l.opt.KubeProxy)
	if c := l.cni(); c != nil {
		list = append(list, c.programs()...)
	}
	var err error
	l.programs, err = builder{source: l.opt.Source, cache: l.opt.Cache, progress: l.progress}.build(ctx, list...)
	return err
}

// Build makes the programs of the lab without bringing one up.
func Build(ctx context.Context, opt Options) error {
	l := newLab(opt)
	defer l.Close()
	return l.Build(ctx)
}

// Checkout finds the top of the checkout that the working directory is in.
func Checkout() (string, error) {
	source, err := findSource()
	return filepath.Dir(source), err
}

// ControlPlanePrograms makes etcd, the API server and what else is built with it,
// as far as the cache lacks them, and returns their paths by name.
func ControlPlanePrograms(ctx context.Context, opt Options) (map[string]string, error) {
	return programs(ctx, opt, controlPlane(opt.Kubernetes)...)
}

// KubeProxyProgram makes kube-proxy, unless the cache has it, and returns its
// path.
func KubeProxyProgram(ctx context.Context, opt Options) (string, error) {
	paths, err := programs(ctx, opt, cluster(kubernetes("kube-proxy")))
	return paths["kube-proxy"], err
}

// KindProgram makes kind, unless the cache has it, and returns its path.
func KindProgram(ctx context.Context, opt Options) (string, error) {
	paths, err := programs(ctx, opt, kind)
	return paths["kind"], err
}

// NodePrograms makes what runs in a cluster that kubeadm installs, as far as the cache
// lacks it, and returns the paths by name.
func NodePrograms(ctx context.Context, opt Options) (map[string]string, error) {
	return programs(ctx, opt, append(wholeCluster("", true), upstream(kubeadm))...)
}

// SuitePrograms makes Kubernetes' own end-to-end tests and the programs of the images that
// they start, as far as the cache lacks them, and returns the paths by name: suite, ginkgo,
// agnhost and regression-issue-74839.
func SuitePrograms(ctx context.Context, opt Options) (map[string]string, error) {
	return programs(ctx, opt, upstream(suite, ginkgo, agnhost, invalid))
}

func programs(ctx context.Context, opt Options, list ...program) (map[string]string, error) {
	l := newLab(opt)
	defer l.Close()
	if err := l.findSource(); err != nil {
		return nil, err
	}
	return builder{source: l.opt.Source, cache: l.opt.Cache, progress: l.progress}.build(ctx, list...)
}

// KindFiles is the directory of the files that kind's own node image has. They are in the
// module of kind.
func KindFiles(ctx context.Context) (string, error) {
	source, err := findSource()
	if err != nil {
		return "", err
	}
	dir, err := moduleDir(ctx, source, kind)
	return filepath.Join(dir, "images", "base", "files"), err
}

// moduleDir is the directory of a program's module in Go's cache.
func moduleDir(ctx context.Context, source string, p program) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", p.module)
	cmd.Dir, cmd.Env = filepath.Join(source, "programs", p.name), append(os.Environ(), "GOWORK=off")
	out, err := output(cmd)
	return strings.TrimSpace(string(out)), err
}

// Cache is the directory of what is made once for each version: $FAIRLEAD_LAB_CACHE or
// /var/cache/fairlead-lab.
func Cache() string { return defaultCache() }

// boot starts everything at once, each part as soon as it has what it needs.
func (l *Lab) boot(ctx context.Context) error {
	if err := l.buildPause(ctx); err != nil {
		return err
	}
	images := make(chan struct{})
	tasks := []func(context.Context) error{
		func(ctx context.Context) error { defer close(images); return l.writeImages(ctx) },
		l.startCluster,
	}
	for _, n := range l.nodes {
		tasks = append(tasks, func(ctx context.Context) error { return l.bootNode(ctx, n, images) })
	}
	if err := together(ctx, tasks...); err != nil {
		return err
	}
	return l.startKubelets(ctx)
}

// startCluster starts the control plane and gives it its first objects.
func (l *Lab) startCluster(ctx context.Context) error {
	if err := l.startControlPlane(ctx); err != nil {
		return err
	}
	if err := l.apply(ctx, l.nodeObjects()); err != nil {
		return err
	}
	if err := l.admitNetwork(ctx); err != nil {
		return err
	}
	return l.apply(ctx, dnsManifest)
}

func (l *Lab) save(ready bool) error {
	v := saved{Programs: l.programs, KubeProxy: l.opt.KubeProxy, CNI: l.opt.CNI, Kubernetes: l.opt.Kubernetes, Ready: ready}
	for _, n := range l.nodes {
		v.Nodes = append(v.Nodes, n.name)
	}
	return l.state.save(v)
}

// Open attaches to the lab that is up.
func Open() (*Lab, error) { return open(Options{}) }

// OpenAlone is Open for a caller who must not be disturbed: it waits until nobody
// else makes, removes or measures the lab, and keeps them away until Close.
func OpenAlone(ctx context.Context) (*Lab, error) {
	l, err := Open()
	if err != nil {
		return nil, err
	}
	waiting := false
	err = Until(ctx, 30*time.Minute, "the others that use the lab", func(context.Context) error {
		if l.lock, err = acquire(); err != nil && !waiting {
			waiting = true
			l.progress.Say("waiting: %v", err)
		}
		return err
	})
	if err == nil && !l.healthy() {
		err = errors.New("no lab is up any more")
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func open(opt Options) (*Lab, error) {
	l := newLab(opt)
	was, err := l.state.load()
	if err != nil || !l.healthy() {
		l.Close()
		return nil, errors.New("no lab is up")
	}
	l.nodes, l.programs = nodes(len(was.Nodes)), was.Programs
	l.opt.KubeProxy, l.opt.CNI, l.opt.Kubernetes = was.KubeProxy, was.CNI, was.Kubernetes
	if err := l.findSource(); err != nil {
		l.progress.Say("%v: images cannot be built", err)
	}
	return l, nil
}

// Close lets go of the lab without removing it.
func (l *Lab) Close() {
	l.lock.release()
	l.lock = nil
	l.progress.Close()
}

// Down removes what the lab made, whole or not, and only that. It may be
// called again. Logs stay until the next Up.
func (l *Lab) Down(ctx context.Context) error {
	if l.lock == nil {
		var err error
		if l.lock, err = acquire(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, downLimit)
	defer cancel()
	step := l.progress.Begin("removing the lab")
	return step.Done(l.remove(ctx))
}

// Down removes the lab of the state directory, also after a crash.
func Down(ctx context.Context, opt Options) error {
	l := newLab(opt)
	defer l.Close()
	return l.Down(ctx)
}

func (l *Lab) remove(ctx context.Context) error {
	errs := []error{thaw(prefix + "*")} // a frozen process cannot die
	names := l.records()
	stops := make([]func(context.Context) error, len(names))
	for i, name := range names {
		stops[i] = func(ctx context.Context) error { return l.stop(ctx, name) }
	}
	errs = append(errs, together(ctx, stops...))
	errs = append(errs, removeTopology(ctx), removeCgroups(ctx, prefix+"*"))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove lab: %w", err) // the records stay for another try
	}
	return l.state.remove()
}

// Logs is the directory of every program's log.
func (l *Lab) Logs() string { return l.state.logs() }

// Kubeconfig is a file with which the machine itself reaches the API server
// as an administrator.
func (l *Lab) Kubeconfig() string { return l.ground().kubeconfig() }

// Nodes lists the names of the nodes.
func (l *Lab) Nodes() []string {
	names := make([]string, len(l.nodes))
	for i, n := range l.nodes {
		names[i] = n.name
	}
	return names
}

// Progress prints the steps of the lab, and of who uses it.
func (l *Lab) Progress() *Progress { return l.progress }

// Root is the top of the checkout.
func (l *Lab) Root() string { return filepath.Dir(l.opt.Source) }

// Cgroup is the folder, on a node, below which the cgroups v2 of its pods are and no
// other node's. The name may be a variable that stands for the node's.
func (l *Lab) Cgroup(node string) string { return l.ground().cgroup(node) }

// NodeAddress is the IPv4 address of a node on the LAN, empty for no node.
func (l *Lab) NodeAddress(name string) string { return l.ground().lan(name).v4 }

// NodeAddress6 is the IPv6 address of a node on the LAN, empty for no node.
func (l *Lab) NodeAddress6(name string) string { return l.ground().lan(name).v6 }

// NodeOf is the name of the node that an address belongs to, by the LAN or by its
// pods' range; the address itself if it belongs to none.
func (l *Lab) NodeOf(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ip
	}
	for _, n := range l.nodes {
		own := l.ground().lan(n.name)
		for _, text := range append(l.ground().pods(n.name), own.v4+"/32", own.v6+"/128") {
			if p, err := netip.ParsePrefix(text); err == nil && p.Contains(addr) {
				return n.name
			}
		}
	}
	return ip
}
