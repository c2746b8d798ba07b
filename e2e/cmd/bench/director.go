package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/bench/direct"
	"github.com/fairlead/fairlead/e2e/lab"
)

func directorCommand() *cobra.Command {
	b := direct.Bench{Out: os.Stderr}
	var ways []string
	write := true
	cmd := &cobra.Command{
		Use: "director", Args: cobra.NoArgs,
		Short: "Compare how connections to a VIP reach pods on other nodes: Masquerade and Direct, or kube-proxy in a lab that has it",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, w := range ways {
				b.Ways = append(b.Ways, direct.Way(w))
			}
			began := time.Now()
			return withLab(cmd.Context(), func(ctx context.Context, l *lab.Lab) error {
				b.Lab = l
				if err := l.UpdateHello(ctx); err != nil {
					return err
				}
				lines, err := b.Run(ctx)
				if err := errors.Join(err, save(cmd, lines)); err != nil {
					return err
				}
				r := direct.NewReport(b, lines, time.Since(began))
				fmt.Fprint(cmd.OutOrStdout(), r.Text())
				return finish(r, write)
			})
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&ways, "ways", []string{string(direct.Masquerade), string(direct.Direct)}, "which to measure")
	f.IntVar(&b.Runs, "runs", 7, "how often each way is measured, in turn")
	f.DurationVar(&b.Connections, "connections", 5*time.Second, "for how long connections are opened in a run")
	f.IntVar(&b.Downloads, "downloads", 4, "downloads in a run")
	f.IntVar(&b.Size, "size", 256<<20, "bytes of a download")
	f.StringSliceVar(&b.Values, "values", []string{"agent.director=auto"}, "values of the chart with which agents direct")
	f.BoolVar(&write, "write", true, "write docs/benchmarks.md")
	return cmd
}
