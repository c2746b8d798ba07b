package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/internal/kube"
)

// clusterCommands are what the chart runs in a cluster, and what removes it.
func clusterCommands() []*cobra.Command {
	return []*cobra.Command{controllerCommand(), agentCommand(), controlPlaneCommand(), bgpSessionCommand(), cleanupCommand(), movedCommand()}
}

const apiServersUsage = "https URLs of API servers to try beside the address that the credentials name; the first that answers with the cluster's certificate counts"

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

// movedCommand answers "fairlead ccm", a command of version 0.1.0, with an error
// that names the program to run instead.
func movedCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ccm", Hidden: true, DisableFlagParsing: true,
		Short: "Fail, and name fairlead-ccm, which is a program of its own",
		RunE: func(*cobra.Command, []string) error {
			return errors.New("the cloud controller manager is a program of its own: run fairlead-ccm with the same flags; the image holds it as /fairlead-ccm")
		},
	}
}
