package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/bench/failover"
	"github.com/fairlead/fairlead/e2e/lab"
)

func failoverCommand() *cobra.Command {
	b := &failover.Bench{Out: os.Stderr, Runs: map[string]int{}}
	var powerLosses, others int
	var only []string
	write := true
	cmd := &cobra.Command{
		Use: "failover", Args: cobra.NoArgs,
		Short: "Let nodes and agents fail, and count what a client sees of it",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for i, s := range failover.Scenarios {
				b.Runs[s.Name] = others
				if i == 0 {
					b.Runs[s.Name] = powerLosses
				}
			}
			if len(only) > 0 {
				b.Runs = pick(b.Runs, only)
			}
			return withLab(cmd.Context(), func(ctx context.Context, l *lab.Lab) error {
				b.Lab = l
				if err := l.UpdateHello(ctx); err != nil {
					return err
				}
				began := time.Now()
				runs, err := b.Run(ctx)
				return errors.Join(err, tellFailover(cmd, runs, time.Since(began), write))
			})
		},
	}
	f := cmd.Flags()
	f.IntVar(&powerLosses, "power-losses", 20, "how often the announcing node loses power")
	f.IntVar(&others, "runs", 5, "how often of every other fault")
	f.StringSliceVar(&only, "only", nil, "scenarios, by name; none: all")
	f.DurationVar(&b.Frozen, "frozen", time.Minute, "for how long an agent is frozen")
	f.BoolVar(&write, "write", true, "write docs/benchmarks.md")
	return cmd
}

func pick(runs map[string]int, only []string) map[string]int {
	out := map[string]int{}
	for _, name := range only {
		out[name] = runs[name]
	}
	return out
}

// tellFailover prints a line of each scenario, writes them all into the
// documentation, and fails if a target was missed.
func tellFailover(cmd *cobra.Command, runs []failover.Run, took time.Duration, write bool) error {
	sums := failover.Summarise(runs)
	for _, s := range sums {
		fmt.Fprintln(cmd.OutOrStdout(), s)
	}
	return errors.Join(save(cmd, failover.Lines(runs)), finish(failover.NewReport(sums, took), write && len(sums) > 0))
}
