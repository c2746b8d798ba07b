package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/internal/cli"
	"github.com/fairlead/fairlead/internal/kube"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "devel"

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fairlead",
		Short: "A LoadBalancer for Kubernetes on bare metal and VMs",
		Long: `fairlead gives Services of type LoadBalancer an address from a pool, tells the
network where it lives, and forwards its packets to the pods, as it does for
ClusterIPs and node ports. In a cluster the Helm chart runs "fairlead controller"
and "fairlead agent"; the other commands are for people.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	if plugin := "kubectl-fairlead"; filepath.Base(os.Args[0]) == plugin {
		cmd.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl fairlead"}
	}
	cmd.AddCommand(cli.Commands(version)...)
	cmd.AddCommand(controllerCommand(), ccmCommand(), agentCommand(), bgpSessionCommand(), renderCommand(), importCommand(), cleanupCommand(), versionCommand())
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "fairlead %s %s/%s %s %s\n", version, runtime.GOOS, runtime.GOARCH, runtime.Version(), revision())
		},
	}
}

func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

const apiServersUsage = "https URLs of API servers, tried in turn, instead of the one that the credentials name"

// accessFlags are the flags of every command that talks to the API server.
func accessFlags(cmd *cobra.Command) *kube.Access {
	a := &kube.Access{UserAgent: "fairlead-" + cmd.Name() + "/" + version}
	cmd.Flags().StringVar(&a.Kubeconfig, "kubeconfig", "", "file with the API server and credentials; empty: the pod's service account")
	cmd.Flags().StringSliceVar(&a.Servers, "api-servers", nil, apiServersUsage)
	return a
}

// logFlag is the flag --log-level and what makes the logger of it.
func logFlag(cmd *cobra.Command) func() (*slog.Logger, error) {
	level := cmd.Flags().String("log-level", "info", "least severe messages to log: debug, info, warn or error")
	return func() (*slog.Logger, error) {
		var l slog.Level
		if err := l.UnmarshalText([]byte(*level)); err != nil {
			return nil, fmt.Errorf("--log-level: %w", err)
		}
		log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l}))
		klog.SetLogger(logr.FromSlogHandler(log.With("from", "client-go").Handler()))
		return log, nil
	}
}
