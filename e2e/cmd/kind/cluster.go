package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/e2e/conformance"
	"github.com/fairlead/fairlead/e2e/debian"
	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/kind"
	"github.com/fairlead/fairlead/e2e/lab"
)

// cluster is a cluster of containers and its files.
type cluster struct {
	kind.Options
	files kind.Files
	store string // directory of the nodes' image, of Podman's cluster
}

// do makes the cluster, does the job in it, and removes it, also after an interrupt.
func (c cluster) do(ctx context.Context, j job) error {
	fmt.Printf("%s\n%s\n", c.Duration(), j.duration())
	if j.tells() {
		left := c.LeftOut()
		for _, story := range slices.Sorted(maps.Keys(left)) {
			fmt.Printf("left out: %s: %s\n", story, left[story])
		}
	}
	if err := errors.Join(c.prepare(ctx), j.prepare(ctx)); err != nil || j.build {
		return err
	}
	if !j.keep {
		defer func() { _ = c.remove(context.WithoutCancel(ctx)) }()
	}
	if err := c.up(ctx); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	description := filepath.Join(c.State, "cluster.json")
	if err := c.settle(ctx, description); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	root, err := lab.Checkout()
	if err != nil {
		return err
	}
	switch {
	case j.suite != "":
		return c.itself(ctx, "-announce="+j.announce, "-conformance="+j.suite, "-focus="+j.focus, suitePart, description)
	case j.tells():
		return execute(ctx, c.Story(description, j.stories), filepath.Join(root, "e2e"))
	}
	return c.itself(ctx, routedPart, description)
}

// prepare makes what Podman's cluster is made of. It is what asks the network for
// anything: the cluster has no way out.
func (c *cluster) prepare(ctx context.Context) error {
	if c.Engine != kind.Podman {
		return nil
	}
	var err error
	if c.store, err = c.nodeStore(ctx); err != nil {
		return err
	}
	return c.fairlead(ctx)
}

func (c cluster) up(ctx context.Context) error {
	if err := c.remove(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(c.files.FRR, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(c.files.Config, []byte(c.Config()), 0o644); err != nil {
		return err
	}
	if c.Engine == kind.Podman {
		if err := c.furnish(ctx); err != nil {
			return err
		}
	}
	return all(ctx, c.Up(c.files, os.Getenv("PATH")), false)
}

// remove removes what up makes, whole or not.
func (c cluster) remove(ctx context.Context) error {
	if c.Engine == kind.Podman {
		if err := c.ownPodman(); err != nil {
			return err
		}
	}
	return all(ctx, c.Down(c.files, os.Getenv("PATH")), true)
}

// settle gives the nodes what depends on the cluster, and writes how the stories reach
// it.
func (c cluster) settle(ctx context.Context, path string) error {
	found, err := c.found(ctx)
	if err != nil {
		return err
	}
	if err := all(ctx, c.Settle(found, lab.CNIConfig, lab.DNSConfig()), false); err != nil {
		return err
	}
	if c.Engine == kind.Podman {
		config, err := out(ctx, c.Internal(c.files, os.Getenv("PATH")))
		if err != nil {
			return err
		}
		if err := os.WriteFile(c.files.Kubeconfig, kind.ByAddress(config, c.APIHost(found)), 0o600); err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(c.Describe(c.files, found), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// found asks for the cluster's containers and their Nodes.
func (c cluster) found(ctx context.Context) ([]kind.Found, error) {
	nodes, err := out(ctx, c.PodRanges())
	if err != nil {
		return nil, err
	}
	ranges, err := kind.ReadPodRanges(nodes)
	if err != nil {
		return nil, err
	}
	var found []kind.Found
	for _, name := range kind.Containers() {
		inspected, err := out(ctx, c.Inspect(name))
		if err != nil {
			return nil, err
		}
		one, err := kind.ReadAddresses(inspected)
		if err != nil {
			return nil, err
		}
		one.Pods = ranges[name]
		found = append(found, one)
	}
	return found, nil
}

// Parts of this program that run where the cluster is reached.
const (
	routedPart = "routed"
	suitePart  = "conformance"
	planesPart = "planes"
)

// itself runs this program where the cluster is reached, with arguments that end with a
// part and the cluster's description.
func (c cluster) itself(ctx context.Context, args ...string) error {
	own, err := os.Executable()
	if err != nil {
		return err
	}
	return execute(ctx, kind.Command{Args: slices.Concat(c.Enter(), []string{own}, args)}, "")
}

// prepare makes what Kubernetes' own tests are made of.
func (j job) prepare(ctx context.Context) error {
	if j.suite == "" {
		return nil
	}
	_, err := lab.SuitePrograms(ctx, lab.Options{})
	if err != nil {
		return err
	}
	_, err = debian.Userland(ctx, filepath.Join(lab.Cache(), "debian"))
	return err
}

// attach returns the cluster of a description.
func attach(ctx context.Context, description string) (*lab.Lab, error) {
	d, err := lab.ReadDescription(description)
	if err != nil {
		return nil, err
	}
	return lab.Attach(ctx, d)
}

// conform runs Kubernetes' own tests in the cluster of a description.
func (j job) conform(ctx context.Context, description string) error {
	o, err := j.tests()
	if err != nil {
		return err
	}
	l, err := attach(ctx, description)
	if err != nil {
		return err
	}
	defer l.Close()
	return conformance.Run(ctx, l, o, os.Stdout)
}

// routed is the demo of BGP, in the cluster of a description.
func routed(ctx context.Context, description string) error {
	l, err := attach(ctx, description)
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
	cmd := command(ctx, c)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(c.Args, " "), err)
	}
	return nil
}

// out is the standard output of a command.
func out(ctx context.Context, c kind.Command) ([]byte, error) {
	cmd := command(ctx, c)
	cmd.Stderr = os.Stderr
	data, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(c.Args, " "), err)
	}
	return data, nil
}

func command(ctx context.Context, c kind.Command) *exec.Cmd {
	cmd := lab.Interruptible(exec.CommandContext(ctx, c.Args[0], c.Args[1:]...))
	cmd.Env = append(os.Environ(), c.Env...)
	if c.In != "" {
		cmd.Stdin = strings.NewReader(c.In)
	}
	return cmd
}
