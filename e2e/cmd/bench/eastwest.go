package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/bench/forwarding"
)

func eastWestCommand() *cobra.Command {
	b := &forwarding.EastWest{Bench: forwarding.Bench{Out: os.Stderr, Length: time.Second}}
	write := true
	cmd := &cobra.Command{
		Use: "eastwest", Args: cobra.NoArgs,
		Short: "Compare how a pod reaches a pod: itself, through kube-proxy, and through fairlead without and with eBPF",
		RunE: func(cmd *cobra.Command, _ []string) error {
			began := time.Now()
			got, err := b.Run(cmd.Context())
			lines := forwarding.EastLines(got)
			if err := errors.Join(err, save(cmd, lines)); err != nil {
				return err
			}
			r := forwarding.NewEastReport(b, lines, time.Since(began))
			fmt.Fprint(cmd.OutOrStdout(), r.Text())
			return finish(r, write)
		},
	}
	f := cmd.Flags()
	f.IntSliceVar(&b.Sizes, "sizes", []int{1, 10000}, "numbers of Services beside the two that are measured, growing")
	f.IntVar(&b.Runs, "runs", 5, "how often each is measured, in turn")
	f.BoolVar(&write, "write", true, "write docs/benchmarks.md")
	return cmd
}
