package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/internal/cli"
	"github.com/fairlead/fairlead/internal/stamp"
)

// version and commit are set by the build: -ldflags "-X main.version=…". Without
// commit it is what the Go command found out.
var version, commit = "devel", ""

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
	if strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe") == "kubectl-fairlead" {
		cmd.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl fairlead"}
	}
	cmd.AddCommand(cli.Commands(version)...)
	cmd.AddCommand(clusterCommands()...)
	cmd.AddCommand(renderCommand(), importCommand(), versionCommand())
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintln(cmd.OutOrStdout(), stamp.Line("fairlead", version, commit))
		},
	}
}
