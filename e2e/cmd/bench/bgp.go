package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/bench/routed"
	"github.com/fairlead/fairlead/e2e/lab"
)

func bgpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "bgp", Args: cobra.NoArgs,
		Short: "Cut a node's power and see when the router and a client behind it notice",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withLab(cmd.Context(), func(ctx context.Context, l *lab.Lab) error {
				b := &routed.Bench{Lab: l, Out: cmd.OutOrStdout()}
				results, err := b.Run(ctx)
				for _, r := range results {
					if missed := r.Missed(); missed != "" {
						err = errors.Join(err, fmt.Errorf("missed: %s", missed))
					}
				}
				return errors.Join(err, b.Clean(context.WithoutCancel(ctx)))
			})
		},
	}
}
