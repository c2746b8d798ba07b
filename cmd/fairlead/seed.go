//go:build linux

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/internal/job/seed"
	"github.com/fairlead/fairlead/internal/kube"
)

// seedCommand is what the chart's job runs after the first install.
func seedCommand() *cobra.Command {
	var patience time.Duration
	cmd := &cobra.Command{
		Use: "seed --manifests YAML", Args: cobra.NoArgs, Hidden: true,
		Short: "Make the pools, announcements and peers that the chart was given",
		Long: `seed is run by the chart after its first install, when Helm does not know
fairlead's kinds yet. It makes each AddressPool, Announcement and BGPPeer that is not
there, as soon as the API server knows the kind.`,
	}
	access := accessFlags(cmd)
	text := cmd.Flags().String("manifests", "", "the objects, as YAML")
	cmd.Flags().DurationVar(&patience, "patience", time.Minute, "how long to try for each")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		clients, err := kube.Connect(*access)
		if err != nil {
			return err
		}
		made, err := seed.Apply(cmd.Context(), clients, []byte(*text), patience)
		if len(made) > 0 {
			fmt.Fprintln(cmd.OutOrStdout(), "made "+strings.Join(made, ", "))
		}
		return err
	}
	return cmd
}
