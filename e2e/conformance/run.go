package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

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
	Groups   []Group
	Announce string // L2, BGP or Direct; empty for L2, and for BGP what that changes
	Procs    int    // specs of a group at once
	Focus    string // a regular expression of the specs to run instead of the groups; empty for these
}

// Check returns what is wrong with the options.
func (o Options) Check() error {
	if o.Announce != "" && !slices.Contains([]string{L2, BGP, Direct}, o.Announce) {
		return fmt.Errorf("ANNOUNCE=%s is none of %s, %s and %s", o.Announce, L2, BGP, Direct)
	}
	if _, err := regexp.Compile(o.Focus); err != nil {
		return fmt.Errorf("FOCUS: %w", err)
	}
	return nil
}

// Asked are the groups that are asked for.
func (o Options) Asked() []Group {
	if o.Focus != "" {
		return []Group{{Name: "focus", Focus: o.Focus, Skip: `^$`, Nodes: o.Groups[0].Nodes}}
	}
	return o.Groups
}

// Labs are the runs that o asks for. Each has a lab of its own: with one way to announce,
// and with as many nodes as its groups ask for.
func (o Options) Labs() (list []Options) {
	ways := []string{o.Announce}
	if o.Announce == "" {
		ways = []string{L2, BGP}
	}
	for _, way := range ways {
		for _, nodes := range []int{3, 6} {
			one := o
			one.Announce = way
			one.Groups = slices.DeleteFunc(slices.Clone(o.Asked()), func(g Group) bool {
				return g.Nodes != nodes || o.Announce == "" && way == BGP && !g.Announced
			})
			if len(one.Groups) > 0 {
				list = append(list, one)
			}
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

// Run installs fairlead in a lab, runs groups of specs, prints a table for each, and
// returns an error that names what failed without an exception. The groups run side by
// side: the specs of load balancers wait most of their time.
func Run(ctx context.Context, l *lab.Lab, o Options, out io.Writer) error {
	programs, err := lab.SuitePrograms(ctx, lab.Options{})
	if err != nil {
		return err
	}
	if err := l.InstallFairlead(ctx); err != nil {
		return err
	}
	if err := l.ConfigureFairlead(ctx, o.values()...); err != nil {
		return err
	}
	if err := load(ctx, l, programs); err != nil {
		return err
	}
	if err := prepare(ctx, l, o.Announce); err != nil {
		return err
	}
	programs["kubectl"] = l.KubectlCommand(ctx).Path
	for _, name := range []string{"suite", "ginkgo", "kubectl"} {
		if programs[name], err = onHosts(l, programs[name]); err != nil {
			return err
		}
	}
	groups := o.Asked()
	results, errs := make([][]Result, len(groups)), make([]error, len(groups))
	var all sync.WaitGroup
	for i, g := range groups {
		all.Go(func() { results[i], errs[i] = run(ctx, l, programs, g, o) })
	}
	all.Wait()
	for i, g := range groups {
		// Of a run that was ended this is what it found so far.
		for _, r := range Write(out, g.Name+", "+o.Announce, results[i], Exceptions, o.Announce) {
			errs = append(errs, fmt.Errorf("%s: %s", r.Spec, r.Why))
		}
		if g.Left != "" {
			fmt.Fprintf(out, "%s: left out are %s\n", g.Name, g.Left)
		}
	}
	return errors.Join(errs...)
}

// values are those of the chart.
func (o Options) values() []string {
	// One spec is about spec.externalIPs, which are off until somebody wants them.
	list := []string{"agent.externalIPs=true"}
	if o.Announce == Direct {
		list = append(list, "agent.director=auto")
	}
	return list
}

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

// directed has all connections directed.
const directed = `apiVersion: fairlead.io/v1alpha1
kind: Announcement
metadata: {name: directed}
spec: {forwarding: Direct, l2: {}}
`

// pool gives the cluster addresses for load balancers, which are announced in a way.
func pool(ctx context.Context, l *lab.Lab, announce string) error {
	file := "pool.yaml"
	if announce == BGP {
		file = "bgp.yaml"
		if _, err := l.StartBGP(ctx, "frr"); err != nil {
			return err
		}
	}
	if _, err := l.Kubectl(ctx, "apply", "-f", filepath.Join(l.Root(), "examples", file)); err != nil || announce != Direct {
		return err
	}
	cmd := l.KubectlCommand(ctx, "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(directed)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apply: %w: %s", err, out)
	}
	return nil
}

// prepare gives the cluster what the specs expect of one: addresses for load balancers, a
// zone for each node, and the tests an address outside.
func prepare(ctx context.Context, l *lab.Lab, announce string) error {
	if err := pool(ctx, l, announce); err != nil {
		return err
	}
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

// run runs the specs of one group on the host behind the router.
func run(ctx context.Context, l *lab.Lab, programs map[string]string, g Group, o Options) ([]Result, error) {
	step := l.Progress().Begin("specs: %s", g.Name)
	// The next lab removes the logs of this one, but not what is beside them.
	dir := filepath.Join(filepath.Dir(l.Logs()), "conformance", g.Name+"-"+o.Announce)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return nil, step.Done(err)
	}
	log, err := os.Create(filepath.Join(dir, "ginkgo.log"))
	if err != nil {
		return nil, step.Done(err)
	}
	defer log.Close()
	cmd, err := l.Command(ctx, lab.Ext, append([]string{programs["ginkgo"]}, ginkgoArgs(g, o, dir, l, programs)...)...)
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

func ginkgoArgs(g Group, o Options, dir string, l *lab.Lab, programs map[string]string) []string {
	return []string{
		fmt.Sprintf("--procs=%d", o.Procs), "--no-color", "--timeout=60m", "--grace-period=10s", "--focus=" + g.Focus, "--skip=" + g.Skip,
		"--output-dir=" + dir, "--json-report=report.json", programs["suite"], "--",
		"--provider=skeleton", "--kubeconfig=" + l.Kubeconfig(), "--dump-logs-on-failure=false", "--kubectl-path=" + programs["kubectl"],
		// Without it only the first process knows, and specs that ask for two nodes skip
		// themselves in the others.
		fmt.Sprintf("--num-nodes=%d", len(l.Nodes())),
	}
}
