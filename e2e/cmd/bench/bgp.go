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
	var routers []string
	cmd := &cobra.Command{
		Use: "bgp", Args: cobra.NoArgs,
		Short: "Cut a node's power and see when the router and a client behind it notice",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withLab(cmd.Context(), func(ctx context.Context, l *lab.Lab) error {
				var all []routed.Result
				var err error
				for _, router := range routers {
					b := &routed.Bench{Lab: l, Router: router, Cases: routed.Cases, Out: cmd.OutOrStdout()}
					var got []routed.Result
					got, err = runBGP(ctx, b)
					if all = append(all, got...); err != nil {
						break
					}
				}
				return errors.Join(err, save(cmd, routed.Lines(all)))
			})
		},
	}
	cmd.Flags().StringSliceVar(&routers, "router", []string{"frr", "bird"}, "what the router runs: frr, bird")
	return cmd
}

// runBGP measures, and fails if a target was missed.
func runBGP(ctx context.Context, b *routed.Bench) (results []routed.Result, err error) {
	_, err = b.Deploy(ctx)
	if err == nil {
		results, err = b.Run(ctx)
	}
	for _, r := range results {
		if missed := r.Missed(); missed != "" {
			err = errors.Join(err, fmt.Errorf("missed: %s", missed))
		}
	}
	return results, errors.Join(err, b.Clean(context.WithoutCancel(ctx)))
}
