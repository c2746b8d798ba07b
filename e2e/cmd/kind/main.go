// Command kind runs the stories in a cluster of containers: kind on Docker or Podman. It
// exits with 3 where neither can be used.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/fairlead/fairlead/e2e/conformance"
	"github.com/fairlead/fairlead/e2e/debian"
	"github.com/fairlead/fairlead/e2e/kind"
	"github.com/fairlead/fairlead/e2e/lab"
)

// errNoEngine is why nothing was done.
var errNoEngine = errors.New(`no Docker engine answers on this machine, and Podman cannot be used
  Podman needs root and the packages podman, netavark, aardvark-dns, runc and mmdebstrap,
  which "make e2e-kind" installs on Debian. "make e2e" runs the same stories in the lab.
  e2e/README.md says what differs`)

const exitNoEngine = 3

func main() {
	var o kind.Options
	flag.StringVar(&o.Engine, "engine", "", "docker or podman; docker if it answers")
	flag.StringVar(&o.Family, "family", kind.Dual, "ipv4, ipv6 or dual")
	flag.StringVar(&o.Image, "image", "", "image of the nodes; kind's newest if empty, or with Podman one that is made here")
	flag.BoolVar(&o.KubeProxy, "kube-proxy", false, "leave kube-proxy in the cluster")
	flag.StringVar(&o.State, "state", "/var/lib/fairlead-kind", "directory for the cluster's files")
	var j job
	flag.StringVar(&j.stories, "run", "", "stories to run; all if empty")
	flag.StringVar(&j.suite, "conformance", "", "run Kubernetes' own tests instead: loadbalancers, services or zones, or several separated by commas")
	flag.StringVar(&j.focus, "focus", "", "a regular expression for the names of those tests, instead of the groups' own")
	flag.StringVar(&j.announce, "announce", "", "l2: run the stories; bgp: measure every path to addresses that a router learns by BGP; l2 if empty. Of Kubernetes' own tests those of e2e/cmd/conformance")
	flag.BoolVar(&j.kubeadm, "kubeadm", false, "instead, install three control planes by kubeadm, with the API server's address")
	flag.BoolVar(&j.keep, "keep", false, "leave the cluster up")
	flag.BoolVar(&j.build, "build", false, "build the programs and images that the cluster is made of, and do nothing else")
	down := flag.Bool("down", false, "remove the cluster that -keep left, and do nothing else")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	var err error
	switch flag.Arg(0) { // see itself
	case routedPart:
		err = routed(ctx, flag.Arg(1))
	case suitePart:
		err = j.conform(ctx, flag.Arg(1))
	case planesPart:
		err = cluster{Options: o, files: o.Files("")}.planes(ctx)
	default:
		err = run(ctx, o, j, *down)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e-kind:", err)
	}
	os.Exit(exitCode(err)) //nolint:gocritic // the process ends: there is nothing left to stop
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errNoEngine):
		return exitNoEngine
	}
	return 1
}

// job is what is done in the cluster.
type job struct {
	stories, announce string
	suite, focus      string // groups of Kubernetes' own tests, or names; empty for the stories
	kubeadm           bool
	keep, build       bool
}

// tells reports whether it runs the stories.
func (j job) tells() bool { return j.suite == "" && j.announce != conformance.BGP }

// duration says how long it takes in a cluster that is up.
func (j job) duration() string {
	switch {
	case j.suite != "":
		return "Kubernetes' own tests take 20 minutes after that"
	case j.tells():
		return "all stories take 25 minutes after that"
	}
	return "all paths by BGP take 3 minutes after that"
}

// check returns what is wrong with a job, before anything is built for it.
func (j job) check() error {
	_, err := j.tests()
	if j.suite == "" && !slices.Contains([]string{"", conformance.L2, conformance.BGP}, j.announce) {
		err = fmt.Errorf("-announce=%s is neither l2 nor bgp", j.announce)
	}
	return err
}

// tests are the options of Kubernetes' own tests.
func (j job) tests() (o conformance.Options, err error) {
	o = conformance.Options{Procs: 6, Focus: j.focus}
	if o.Groups, err = conformance.Select(j.suite); err == nil {
		o.Ways, err = conformance.Ways(j.announce)
	}
	return o, err
}

func run(ctx context.Context, o kind.Options, j job, down bool) error {
	if err := o.Check(); err != nil {
		return err
	}
	if err := j.check(); err != nil {
		return err
	}
	if j.suite != "" { // the other half of the usual range is the clients'
		o.Services = conformance.Services
	}
	var err error
	if o.Engine, err = engine(ctx, o.Engine); err != nil {
		return err
	}
	// A cluster is removed without room too.
	if !down && (o.Engine == kind.Podman || j.suite != "") {
		if err := debian.Possible(lab.Cache()); err != nil {
			return err
		}
	}
	if j.kubeadm && !down {
		return cluster{Options: o, files: o.Files("")}.kubeadm(ctx, j.keep)
	}
	program, err := lab.KindProgram(ctx, lab.Options{})
	if err != nil {
		return err
	}
	c := cluster{Options: o, files: o.Files(program)}
	if down {
		return c.remove(ctx)
	}
	return c.do(ctx, j)
}

// engine returns the engine that is asked for, or without a name the one that there is.
func engine(ctx context.Context, name string) (string, error) {
	var said string
	if name != kind.Podman {
		out, err := exec.CommandContext(ctx, "docker", "version", "--format={{.Server.Version}}").CombinedOutput()
		if err == nil {
			return kind.Docker, nil
		}
		said = strings.TrimSpace(fmt.Sprintf("docker said: %s %v", out, err))
	}
	if name == kind.Docker {
		return "", fmt.Errorf("%w\n  %s", errNoEngine, said)
	}
	for _, program := range []string{"podman", "runc", "mmdebstrap"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", fmt.Errorf("%w\n  %s\n  %w", errNoEngine, said, err)
		}
	}
	if os.Geteuid() != 0 {
		return "", fmt.Errorf("%w\n  %s\n  this is not root", errNoEngine, said)
	}
	return kind.Podman, nil
}
