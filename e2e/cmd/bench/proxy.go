package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/bench/forwarding"
)

func proxyCommand() *cobra.Command {
	b := &forwarding.Bench{Out: os.Stderr, Length: time.Second}
	write := true
	cmd := &cobra.Command{
		Use: "proxy", Args: cobra.NoArgs,
		Short: "Compare kube-proxy and fairlead on a node, with many Services",
		RunE: func(cmd *cobra.Command, _ []string) error {
			began := time.Now()
			results, err := b.Run(cmd.Context())
			lines := forwarding.Lines(results)
			if err := errors.Join(err, save(cmd, lines)); err != nil {
				return err
			}
			r := forwarding.NewReport(*b, lines, time.Since(began))
			fmt.Fprint(cmd.OutOrStdout(), r.Text())
			return finish(r, write)
		},
	}
	f := cmd.Flags()
	f.IntSliceVar(&b.Sizes, "sizes", []int{1, 100, 1000, 5000, 10000}, "numbers of Services, growing")
	f.IntVar(&b.Loads, "loads", 5, "how often each is started on an empty node")
	f.IntVar(&b.Changes, "changes", 20, "how often an endpoint is moved; of a slow one a minute's worth")
	f.IntVar(&b.Runs, "runs", 7, "how often connections are made through each, in turn")
	f.BoolVar(&write, "write", true, "write docs/benchmarks.md")
	return cmd
}

func churnCommand() *cobra.Command {
	b := &forwarding.Beside{Churn: forwarding.Churn{Bench: forwarding.Bench{Out: os.Stderr}}}
	write := true
	cmd := &cobra.Command{
		Use: "churn", Args: cobra.NoArgs,
		Short: "Change endpoints all the time, alone or in turn with kube-proxy beside another program",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(b.Every) == 0 {
				return churn(cmd, &b.Churn)
			}
			return churnBeside(cmd, b, write)
		},
	}
	f := cmd.Flags()
	f.IntVar(&b.Services, "services", 100, "how many Services' endpoints change")
	f.IntVar(&b.Rate, "rate", 100, "how many changes are written in a second")
	f.DurationVar(&b.Length, "length", time.Minute, "for how long")
	f.DurationSliceVar(&b.Every, "writers", nil, "times between two nftables transactions of another program, 0 for none; compares with kube-proxy")
	f.IntVar(&b.Turns, "runs", 6, "how often each of the two is measured, with --writers")
	f.BoolVar(&write, "write", true, "write docs/benchmarks.md, with --writers")
	return cmd
}

// churn measures fairlead alone.
func churn(cmd *cobra.Command, c *forwarding.Churn) error {
	got, err := c.Run(cmd.Context())
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), got)
	return errors.Join(append(got.Failed, save(cmd, got.Lines()))...)
}

// churnBeside measures fairlead and kube-proxy in turn.
func churnBeside(cmd *cobra.Command, b *forwarding.Beside, write bool) error {
	began := time.Now()
	lines, err := b.Run(cmd.Context())
	if err := errors.Join(err, save(cmd, lines)); err != nil {
		return err
	}
	r := forwarding.NewBesideReport(*b, lines, time.Since(began))
	fmt.Fprint(cmd.OutOrStdout(), r.Text())
	return finish(r, write)
}
