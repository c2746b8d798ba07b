package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

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
	Announce string // l2 or bgp
	Procs    int    // specs at once
	Focus    string // a regular expression instead of the groups' own; empty for theirs
}

// images are what the specs start, with the program that agnhost is.
var images = []struct{ ref, name string }{
	{"registry.k8s.io/e2e-test-images/agnhost:2.63.0", "agnhost"},
	{"registry.k8s.io/e2e-test-images/busybox:1.37.0-1", ""},
}

// Run runs groups of specs in a lab that has fairlead, prints a table for each, and
// returns an error that names what failed without an exception.
func Run(ctx context.Context, l *lab.Lab, o Options, out io.Writer) error {
	programs, err := lab.SuitePrograms(ctx, lab.Options{})
	if err != nil {
		return err
	}
	if err := load(ctx, l, programs["agnhost"]); err != nil {
		return err
	}
	if err := prepare(ctx, l, o.Announce); err != nil {
		return err
	}
	var errs []error
	for _, g := range o.Groups {
		results, err := run(ctx, l, programs, g, o)
		if err != nil {
			return err
		}
		for _, r := range Write(out, g.Name+", "+o.Announce, results, Exceptions, o.Announce) {
			errs = append(errs, fmt.Errorf("%s: %s", r.Spec, r.Why))
		}
		if g.Left != "" {
			fmt.Fprintf(out, "%s: left out are %s\n", g.Name, g.Left)
		}
	}
	return errors.Join(errs...)
}

// load brings the images to every node.
func load(ctx context.Context, l *lab.Lab, agnhost string) error {
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
		if err := write(base, archive, i.ref, agnhost, i.name); err != nil {
			return step.Done(err)
		}
		step.Waiting("%s on every node", i.ref)
		if err := l.Import(ctx, archive); err != nil {
			return step.Done(err)
		}
	}
	return step.Done(nil)
}

func write(base, archive, ref, agnhost, name string) error {
	if name == "" {
		return lab.WriteImageOn(base, archive, ref, "", "bin/sh")
	}
	return lab.WriteImageOn(base, archive, ref, agnhost, name, "pause")
}

// prepare gives the cluster what the specs expect of one: addresses for load balancers, a
// zone for each node, and the tests an address outside.
func prepare(ctx context.Context, l *lab.Lab, announce string) error {
	pool := "pool.yaml"
	if announce == "bgp" {
		pool = "bgp.yaml"
		if _, err := l.StartBGP(ctx, "frr"); err != nil {
			return err
		}
	}
	if _, err := l.Kubectl(ctx, "apply", "-f", filepath.Join(l.Root(), "examples", pool)); err != nil {
		return err
	}
	for _, node := range l.Nodes() {
		if _, err := l.Kubectl(ctx, "label", "--overwrite", "node", node, "topology.kubernetes.io/zone=zone-of-"+node); err != nil {
			return err
		}
	}
	for _, c := range []struct{ host, script string }{
		{lab.Router, "ip route replace " + clients + " via 198.18.1.100"},
		{lab.Ext, "ip addr replace " + client + "/32 dev eth0; ip route replace default via 198.18.1.1 src " + client},
	} {
		if _, err := l.Exec(ctx, c.host, "/bin/sh", "-c", c.script); err != nil {
			return err
		}
	}
	return nil
}

// run runs the specs of one group on the host behind the router.
func run(ctx context.Context, l *lab.Lab, programs map[string]string, g Group, o Options) ([]Result, error) {
	step := l.Progress().Begin("specs: %s", g.Name)
	dir := filepath.Join(l.Logs(), "conformance-"+g.Name+"-"+o.Announce)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, step.Done(err)
	}
	test := filepath.Join(dir, "suite.test") // ginkgo asks for the name's end
	if err := errors.Join(os.RemoveAll(test), os.Symlink(programs["suite"], test)); err != nil {
		return nil, step.Done(err)
	}
	log, err := os.Create(filepath.Join(dir, "ginkgo.log"))
	if err != nil {
		return nil, step.Done(err)
	}
	defer log.Close()
	cmd, err := l.Command(ctx, lab.Ext, append([]string{programs["ginkgo"]}, ginkgoArgs(g, o, dir, test, l.Kubeconfig(), l.KubectlCommand(ctx).Path)...)...)
	if err != nil {
		return nil, step.Done(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	step.Waiting("%s, which has what they print", log.Name())
	failed := cmd.Run() // it exits with 1 if a spec failed: the report says which
	report, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		return nil, step.Done(errors.Join(ctx.Err(), failed, err))
	}
	results, err := Read(report)
	return results, step.Done(errors.Join(ctx.Err(), err))
}

func ginkgoArgs(g Group, o Options, dir, test, kubeconfig, kubectl string) []string {
	focus := g.Focus
	if o.Focus != "" {
		focus = o.Focus
	}
	return []string{
		fmt.Sprintf("--procs=%d", o.Procs), "--no-color", "--timeout=60m", "--focus=" + focus, "--skip=" + g.Skip,
		"--output-dir=" + dir, "--json-report=report.json", test, "--",
		"--provider=skeleton", "--kubeconfig=" + kubeconfig, "--dump-logs-on-failure=false", "--kubectl-path=" + kubectl,
	}
}
