package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/lab"
)

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "lab",
		Short:         "A Kubernetes cluster on this machine to try fairlead in",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(upCommand(), downCommand(), statusCommand(), buildCommand(), kubectlCommand(), helmCommand(), execCommand(), nodeCommand(), apiCommand(), demoCommand(), upgradeCommand())
	return root
}

func upCommand() *cobra.Command {
	var opt lab.Options
	c := &cobra.Command{
		Use:   "up",
		Short: "Bring the cluster up; with --fairlead also bring the one that is up to this checkout",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := upOrOpen(c.Context(), opt)
			if err != nil {
				return err
			}
			defer l.Close()
			if opt.Fairlead {
				if err := l.InstallFairlead(c.Context()); err != nil {
					return err
				}
			}
			printReach(l)
			return nil
		},
	}
	c.Flags().IntVar(&opt.Nodes, "nodes", 3, "number of nodes")
	c.Flags().BoolVar(&opt.KubeProxy, "kube-proxy", false, "start kube-proxy (nftables mode) on the nodes")
	c.Flags().BoolVar(&opt.Fairlead, "fairlead", false, "install fairlead of this checkout by its chart")
	cniFlag(c, &opt)
	c.Flags().StringVar(&opt.Kubernetes, "kubernetes", "", "an older Kubernetes: 1.29 or 1.33")
	return c
}

func cniFlag(c *cobra.Command, opt *lab.Options) {
	c.Flags().StringVar(&opt.CNI, "cni", "", "the pods' network, in the place of the lab's own links and routes: "+strings.Join(lab.CNIs(), ", "))
}

// upOrOpen takes the lab that is up as it is, or brings one up.
func upOrOpen(ctx context.Context, opt lab.Options) (*lab.Lab, error) {
	if l, err := lab.OpenAlone(ctx); err == nil {
		l.Progress().Say("a lab is up already")
		return l, nil
	}
	return lab.Up(ctx, opt)
}

func downCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Remove the cluster, also one that is half made",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return lab.Down(c.Context(), lab.Options{})
		},
	}
}

func statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the cluster's programs, nodes and pods",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return withLab(func(l *lab.Lab) error {
				for _, p := range l.Processes() {
					fmt.Printf("%-28s pid %-8d %s\n", p.Name, p.PID, p.State())
				}
				if err := passThrough(l.KubectlCommand(c.Context(), "get", "nodes", "-o", "wide")); err != nil {
					return err
				}
				return passThrough(l.KubectlCommand(c.Context(), "get", "pods", "-A", "-o", "wide"))
			})
		},
	}
}

func buildCommand() *cobra.Command {
	var opt lab.Options
	c := &cobra.Command{
		Use:   "build",
		Short: "Build the cluster's programs into the cache",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return lab.Build(c.Context(), opt)
		},
	}
	c.Flags().BoolVar(&opt.KubeProxy, "kube-proxy", false, "kube-proxy too")
	cniFlag(c, &opt)
	c.Flags().StringVar(&opt.Kubernetes, "kubernetes", "", "those of an older Kubernetes: 1.29 or 1.33")
	return c
}

func kubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "kubectl ARGS...",
		Short:              "Run kubectl against the cluster",
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			return withLab(func(l *lab.Lab) error { return passThrough(l.KubectlCommand(c.Context(), args...)) })
		},
	}
}

func helmCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "helm ARGS...",
		Short:              "Run helm against the cluster",
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			return withLab(func(l *lab.Lab) error { return passThrough(l.HelmCommand(c.Context(), args...)) })
		},
	}
}

func execCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "exec HOST -- COMMAND...",
		Short: "Run a command on cp, client, router, ext or a node",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return withLab(func(l *lab.Lab) error {
				cmd, err := l.Command(c.Context(), args[0], args[1:]...)
				if err != nil {
					return err
				}
				return passThrough(cmd)
			})
		},
	}
}

func withLab(use func(*lab.Lab) error) error {
	l, err := lab.Open()
	if err != nil {
		return err
	}
	defer l.Close()
	return use(l)
}

// errPassed marks the failure of a command that spoke for itself.
var errPassed = errors.New("command failed")

func isPassed(err error) bool { return errors.Is(err, errPassed) }

// passThrough runs a command on this terminal.
func passThrough(cmd *exec.Cmd) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %w", errPassed, err)
	}
	return nil
}

// printReach tells how to use a lab that stays up.
func printReach(l *lab.Lab) {
	fmt.Printf(`The lab is up. From the top of the checkout:
  go run ./e2e/cmd/lab kubectl get nodes
  go run ./e2e/cmd/lab exec client -- ping -c1 %s
  go run ./e2e/cmd/lab down
With another kubectl: export KUBECONFIG=%s
Logs: %s
`, lab.APIHost, l.Kubeconfig(), l.Logs())
}
