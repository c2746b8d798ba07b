package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/e2e/debian"
	"github.com/fairlead/fairlead/e2e/lab"
)

// Services is the IPv4 range of the Services of a lab that Run is given. The other half
// of the usual one is the clients'.
const Services = "198.19.0.0/17"

// client is the address of the tests themselves. They ask for one outside the /16 of the
// nodes' addresses: from there they look whether pods see it.
const client, clients = "198.19.128.100", "198.19.128.0/24"

// Options of a run.
type Options struct {
	Groups []Group
	Ways   []string // to announce addresses
	Procs  int      // specs of a table at once
	Focus  string   // a regular expression of the specs to run instead of the groups; empty for these
}

// Asked are the groups that are asked for.
func (o Options) Asked() []Group {
	if o.Focus != "" {
		return []Group{{Name: "focus", Focus: o.Focus, Skip: `^$`, Nodes: o.Groups[0].Nodes, Announced: true}}
	}
	return o.Groups
}

// Labs are the runs that o asks for. Each has a lab of its own, with as many nodes as its
// groups ask for.
func (o Options) Labs() (list []Options) {
	for _, nodes := range []int{3, 6} {
		one := o
		one.Groups = slices.DeleteFunc(slices.Clone(o.Asked()), func(g Group) bool { return g.Nodes != nodes })
		if len(one.Groups) > 0 {
			list = append(list, one)
		}
	}
	return list
}

// table is a group that runs with addresses that are announced in a way.
type table struct {
	Group
	way string
}

func (t table) title() string { return t.Name + ", " + t.way }

// tables are what o runs, in its order.
func (o Options) tables() (list []table) {
	for _, g := range o.Asked() {
		if !g.Announced {
			list = append(list, table{g, L2})
			continue
		}
		for _, way := range o.Ways {
			list = append(list, table{g, way})
		}
	}
	return list
}

// testImages is where the specs' images are from.
const testImages = "registry.k8s.io/e2e-test-images/"

// images are what the specs start: a program of lab.SuitePrograms with its arguments, or a
// shell.
var images = []struct {
	ref, program string
	args         []string
}{
	{ref: testImages + "agnhost:2.63.0", program: "agnhost", args: []string{"pause"}},
	{ref: testImages + "regression-issue-74839:1.4", program: "regression-issue-74839"},
	{ref: testImages + "busybox:1.37.0-1"},
}

// apart is the time between the beginnings of two tables. Most specs of each are over soon,
// and some wait for long.
const apart = time.Minute

// Run installs fairlead in a lab, runs groups of specs, prints a table for each, and
// returns an error that names what failed without an exception. The tables are made side by
// side: the specs of load balancers wait most of their time.
func Run(ctx context.Context, l *lab.Lab, o Options, out io.Writer) error {
	programs, err := lab.SuitePrograms(ctx, lab.Options{})
	if err != nil {
		return err
	}
	tables := o.tables()
	if err := prepare(ctx, l, programs, tables); err != nil {
		return err
	}
	results, errs := make([][]Result, len(tables)), make([]error, len(tables))
	var all sync.WaitGroup
	for i, t := range tables {
		all.Go(func() {
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(i) * apart):
			}
			results[i], errs[i] = run(ctx, l, programs, t, o.Procs)
		})
	}
	all.Wait()
	for i, t := range tables {
		// Of a run that was ended this is what it found so far.
		for _, r := range Write(out, t.title(), results[i], Exceptions) {
			errs = append(errs, fmt.Errorf("%s: %s: %s", t.title(), r.Spec, r.Why))
		}
		if t.Left != "" {
			fmt.Fprintf(out, "%s: left out are %s\n", t.title(), t.Left)
		}
	}
	return errors.Join(errs...)
}

// prepare gives a cluster fairlead, the images of the specs, and what they expect of it. It
// replaces the paths of the programs that run on the hosts.
func prepare(ctx context.Context, l *lab.Lab, programs map[string]string, tables []table) error {
	if err := l.InstallFairlead(ctx); err != nil {
		return err
	}
	if err := l.ConfigureFairlead(ctx, values(tables)...); err != nil {
		return err
	}
	if err := load(ctx, l, programs); err != nil {
		return err
	}
	for way := range ways(tables) {
		if err := give(ctx, l, way); err != nil {
			return err
		}
	}
	if err := place(ctx, l); err != nil {
		return err
	}
	programs["kubectl"] = l.KubectlCommand(ctx).Path
	for _, name := range []string{"suite", "ginkgo", "kubectl"} {
		path, err := onHosts(l, programs[name])
		if err != nil {
			return err
		}
		programs[name] = path
	}
	return nil
}

// ways are those of the tables.
func ways(tables []table) map[string]bool {
	all := map[string]bool{}
	for _, t := range tables {
		all[t.way] = true
	}
	return all
}

// values are those of the chart.
func values(tables []table) []string {
	// One spec is about spec.externalIPs, which are off until somebody wants them.
	list := []string{"agent.externalIPs=true"}
	if ways(tables)[Direct] {
		list = append(list, "agent.director=auto")
	}
	return list
}

// pools have the addresses that are announced in a way: the name of the pool, and the file
// that has it.
var pools = map[string]struct{ name, file string }{
	L2:     {"lan", "examples/pool.yaml"},
	BGP:    {"routed", "examples/bgp.yaml"},
	Direct: {"directed", "e2e/conformance/directed.yaml"},
}

// give gives the cluster the pool of a way. It serves the namespaces of the specs that run
// that way, and no other: the suite labels these with what runVariable says.
func give(ctx context.Context, l *lab.Lab, way string) error {
	if way == BGP {
		if _, err := l.StartBGP(ctx, "frr"); err != nil {
			return err
		}
		// Each node remembers its own sticky clients, so all connections of a client have to
		// go to one node.
		if _, err := l.Exec(ctx, lab.Router, "sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=0", "net.ipv6.fib_multipath_hash_policy=0"); err != nil {
			return err
		}
	}
	pool := pools[way]
	if _, err := l.Kubectl(ctx, "apply", "-f", filepath.Join(l.Root(), pool.file)); err != nil {
		return err
	}
	patch := fmt.Sprintf(`{"spec":{"namespaceSelector":{"matchLabels":{"e2e-run":%q}}}}`, way)
	_, err := l.Kubectl(ctx, "patch", "addresspool", pool.name, "--type=merge", "--patch="+patch)
	return err
}

// runVariable tells programs/upstream/suite the value of the label e2e-run.
const runVariable = "E2E_RUN"

// onHosts copies a program to where every host has it, and returns its path.
func onHosts(l *lab.Lab, program string) (string, error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(l.Hello()), filepath.Base(program)+".test") // ginkgo asks for the name's end
	return path, os.WriteFile(path, content, 0o755)
}

// load brings the images to every node.
func load(ctx context.Context, l *lab.Lab, programs map[string]string) error {
	step := l.Progress().Begin("images of the tests")
	base, err := debian.Userland(ctx, filepath.Join(lab.Cache(), "debian"))
	if err != nil {
		return step.Done(err)
	}
	dir, err := os.MkdirTemp("", "fairlead-images-")
	if err != nil {
		return step.Done(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for _, i := range images {
		archive := filepath.Join(dir, "image.tar")
		name := i.program
		if name == "" {
			name = "bin/sh"
		}
		if err := lab.WriteImageOn(base, archive, i.ref, programs[i.program], name, i.args...); err != nil {
			return step.Done(err)
		}
		step.Waiting("%s on every node", i.ref)
		if err := l.Import(ctx, archive); err != nil {
			return step.Done(err)
		}
	}
	return step.Done(nil)
}

// zones is how many zones the nodes are in.
const zones = 3

// place puts each node into a zone, and the tests at an address outside.
func place(ctx context.Context, l *lab.Lab) error {
	for i, node := range l.Nodes() {
		if _, err := l.Kubectl(ctx, "label", "--overwrite", "node", node, fmt.Sprintf("topology.kubernetes.io/zone=zone-%d", i%zones+1)); err != nil {
			return err
		}
	}
	scripts := map[string]string{
		lab.Router: "ip route replace " + clients + " via 198.18.1.100",
		lab.Ext:    "ip addr replace " + client + "/32 dev eth0; ip route replace default via 198.18.1.1 src " + client,
	}
	for _, host := range append(l.Nodes(), lab.ControlPlane) {
		scripts[host] = "ip route replace " + clients + " via 198.18.0.254"
	}
	for host, script := range scripts {
		if _, err := l.Exec(ctx, host, "/bin/sh", "-c", script); err != nil {
			return err
		}
	}
	return nil
}

// run runs the specs of one table on the host behind the router, so many at once.
func run(ctx context.Context, l *lab.Lab, programs map[string]string, t table, procs int) ([]Result, error) {
	step := l.Progress().Begin("specs: %s", t.title())
	// The next lab removes the logs of this one, but not what is beside them.
	dir := filepath.Join(filepath.Dir(l.Logs()), "conformance", t.Name+"-"+t.way)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return nil, step.Done(err)
	}
	log, err := os.Create(filepath.Join(dir, "ginkgo.log"))
	if err != nil {
		return nil, step.Done(err)
	}
	defer log.Close()
	cmd, err := l.Command(ctx, lab.Ext, append([]string{"env", runVariable + "=" + t.way, programs["ginkgo"]}, ginkgoArgs(t.Group, procs, dir, l, programs)...)...)
	if err != nil {
		return nil, step.Done(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	step.Waiting("%s, which has what they print", log.Name())
	failed := lab.Interruptible(cmd).Run() // it exits with 1 if a spec failed: the report says which
	report, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		return nil, step.Done(errors.Join(ctx.Err(), failed, err))
	}
	results, err := Read(report)
	return results, step.Done(errors.Join(ctx.Err(), err))
}

func ginkgoArgs(g Group, procs int, dir string, l *lab.Lab, programs map[string]string) []string {
	return []string{
		fmt.Sprintf("--procs=%d", procs), "--no-color", "--timeout=60m", "--grace-period=10s", "--focus=" + g.Focus, "--skip=" + g.Skip,
		"--output-dir=" + dir, "--json-report=report.json", programs["suite"], "--",
		"--provider=skeleton", "--kubeconfig=" + l.Kubeconfig(), "--dump-logs-on-failure=false", "--kubectl-path=" + programs["kubectl"],
		// Without it only the first process knows, and specs that ask for two nodes skip
		// themselves in the others.
		fmt.Sprintf("--num-nodes=%d", len(l.Nodes())),
	}
}
