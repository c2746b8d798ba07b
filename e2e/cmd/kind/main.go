// Command kind runs the stories in a cluster of containers: kind on Docker. It exits
// with 3 where there is no Docker engine.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/kind"
	"github.com/fairlead/fairlead/e2e/lab"
)

// errNoEngine is why nothing was done.
var errNoEngine = errors.New(`no Docker engine answers on this machine, and kind needs one.
  What can be used instead: "make e2e" runs the same stories in the lab, which needs
  root on Linux and nothing else. e2e/README.md says what differs`)

const exitNoEngine = 3

func main() {
	var o kind.Options
	flag.StringVar(&o.Family, "family", kind.Dual, "ipv4, ipv6 or dual")
	flag.StringVar(&o.Image, "image", "", "image of the nodes; kind's newest if empty")
	flag.BoolVar(&o.KubeProxy, "kube-proxy", false, "leave kube-proxy in the cluster")
	flag.StringVar(&o.State, "state", "/var/lib/fairlead-kind", "directory for the cluster's files")
	run := flag.String("run", "", "stories to run; all if empty")
	announce := flag.String("announce", "l2", "l2: run the stories; bgp: measure every path to addresses that a router learns by BGP")
	keep := flag.Bool("keep", false, "leave the cluster up")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := stories(ctx, o, job{*run, *announce}, *keep)
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

// engine tells whether a Docker engine answers.
func engine(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "docker", "version", "--format={{.Server.Version}}").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n  docker said: %s", errNoEngine, strings.TrimSpace(string(out)))
	}
	return nil
}

// job is what is done in the cluster.
type job struct{ stories, announce string }

func stories(ctx context.Context, o kind.Options, j job, keep bool) error {
	if err := o.Check(); err != nil {
		return err
	}
	if j.announce != "l2" && j.announce != "bgp" {
		return fmt.Errorf("-announce=%s is neither l2 nor bgp", j.announce)
	}
	if err := engine(ctx); err != nil {
		return err
	}
	program, err := lab.KindProgram(ctx, lab.Options{})
	if err != nil {
		return err
	}
	f := o.Files(program)
	if !keep {
		defer func() { _ = all(context.WithoutCancel(ctx), o.Down(f), true) }()
	}
	if err := up(ctx, o, f); err != nil {
		return err
	}
	description := filepath.Join(o.State, "cluster.json")
	if err := describe(ctx, o, f, description); err != nil {
		return err
	}
	if j.announce == "bgp" {
		return routed(ctx, description)
	}
	root, err := lab.Checkout()
	if err != nil {
		return err
	}
	return execute(ctx, kind.Story(description, j.stories), filepath.Join(root, "e2e"))
}

// routed is the demo of BGP, in the cluster of a description.
func routed(ctx context.Context, description string) error {
	d, err := lab.ReadDescription(description)
	if err != nil {
		return err
	}
	l, err := lab.Attach(ctx, d)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.UpdateHello(ctx); err != nil {
		return err
	}
	speaker, err := l.StartBGP(ctx, "frr")
	if err != nil {
		return err
	}
	if err := l.InstallFairlead(ctx); err != nil {
		return err
	}
	r, err := demo.RunBGP(ctx, l, speaker, os.Stdout)
	if err == nil {
		fmt.Println(r.Summary())
	}
	return err
}

func up(ctx context.Context, o kind.Options, f kind.Files) error {
	if err := all(ctx, o.Down(f), true); err != nil {
		return err
	}
	if err := os.MkdirAll(f.FRR, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(f.Config, []byte(o.Config()), 0o644); err != nil {
		return err
	}
	return all(ctx, o.Up(f), false)
}

// describe writes how the stories reach the cluster.
func describe(ctx context.Context, o kind.Options, f kind.Files, path string) error {
	containers, err := exec.CommandContext(ctx, f.Kind, "get", "nodes", "--name="+kind.Cluster).Output()
	if err != nil {
		return err
	}
	found := make([]kind.Found, 1+kind.Workers)
	for _, name := range strings.Fields(string(containers)) {
		i, ok := kind.Place(name)
		if !ok {
			continue
		}
		inspected, err := exec.CommandContext(ctx, "docker", "inspect", name).Output()
		if err != nil {
			return err
		}
		if found[i], err = kind.ReadAddresses(inspected); err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(o.Describe(f, found), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// all runs commands in their order, to the first failure unless it is asked not to
// mind.
func all(ctx context.Context, list []kind.Command, anyway bool) error {
	for _, c := range list {
		if err := execute(ctx, c, ""); err != nil && !anyway {
			return err
		}
	}
	return nil
}

func execute(ctx context.Context, c kind.Command, dir string) error {
	fmt.Println("+", strings.Join(append(c.Env, c.Args...), " "))
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append(os.Environ(), c.Env...), os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(c.Args, " "), err)
	}
	return nil
}
