package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/bench/direct"
	"github.com/fairlead/fairlead/e2e/bench/report"
	"github.com/fairlead/fairlead/e2e/lab"
)

func directorCommand() *cobra.Command {
	b := direct.Bench{Out: os.Stderr}
	var ways []string
	write, kubeProxy := true, true
	cmd := &cobra.Command{
		Use: "director", Args: cobra.NoArgs,
		Short: "Compare how connections to a VIP reach pods on other nodes: Masquerade and Direct, also with a router between the nodes, and kube-proxy in a lab of its own",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, w := range ways {
				b.Ways = append(b.Ways, direct.Way(w))
			}
			began, lines := time.Now(), &report.Lines{}
			run := func(b direct.Bench) func(context.Context, *lab.Lab) error {
				return func(ctx context.Context, l *lab.Lab) error {
					b.Lab = l
					return errors.Join(l.UpdateHello(ctx), b.Run(ctx, lines))
				}
			}
			others := kubeProxy && !labIsUp()
			err := withLab(cmd.Context(), run(b))
			if err == nil && others {
				other := b
				other.Ways, other.FarRuns = []direct.Way{direct.KubeProxy}, 0
				err = inFreshLab(cmd.Context(), lab.Options{Fairlead: true, KubeProxy: true}, run(other))
			}
			if err := errors.Join(err, save(cmd, lines)); err != nil {
				return err
			}
			r := direct.NewReport(b, lines, time.Since(began))
			fmt.Fprint(cmd.OutOrStdout(), r.Text())
			return finish(r, write)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&ways, "ways", []string{string(direct.Masquerade), string(direct.Direct)}, "which to measure")
	f.IntVar(&b.Runs, "runs", 7, "how often each way is measured, in turn")
	f.IntVar(&b.FarRuns, "far-runs", 5, "how often each way is measured with each node in a subnet of its own")
	f.DurationVar(&b.Connections, "connections", 5*time.Second, "for how long connections are opened in a run")
	f.IntVar(&b.Downloads, "downloads", 4, "downloads in a run")
	f.IntVar(&b.Size, "size", 256<<20, "bytes of a download")
	f.StringSliceVar(&b.Values, "values", []string{"agent.director=auto"}, "values of the chart with which agents direct")
	f.BoolVar(&kubeProxy, "kube-proxy", true, "then measure kube-proxy too, in a lab that is made for it, unless a lab is up")
	f.BoolVar(&write, "write", true, "write docs/benchmarks.md")
	return cmd
}
