package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/bench/forwarding"
)

func largeCommand() *cobra.Command {
	l := &forwarding.Large{Bench: forwarding.Bench{Out: os.Stderr}}
	var balanced, plain int
	var theirs, theirsPlain time.Duration
	write := true
	cmd := &cobra.Command{
		Use: "large", Args: cobra.NoArgs,
		Short: "Measure a node of a large cluster beside another program that changes nftables",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if balanced > 0 {
				l.Crowds = append(l.Crowds, forwarding.Crowd{Services: balanced, Balanced: true, KubeProxy: theirs})
			}
			if plain > 0 {
				l.Crowds = append(l.Crowds, forwarding.Crowd{Services: plain, KubeProxy: theirsPlain})
			}
			began := time.Now()
			lines, err := l.Run(cmd.Context())
			if err := errors.Join(err, save(cmd, lines)); err != nil {
				return err
			}
			r := forwarding.NewLargeReport(*l, lines, time.Since(began))
			fmt.Fprint(cmd.OutOrStdout(), r.Text())
			return finish(r, write)
		},
	}
	f := cmd.Flags()
	f.IntVar(&balanced, "balanced", 10000, "how many Services of type LoadBalancer; 0: none")
	f.IntVar(&plain, "plain", 50000, "how many Services with a ClusterIP alone, measured after them; 0: none")
	f.DurationVar(&theirs, "kube-proxy", 8*time.Minute, "how long kube-proxy may take to serve --balanced; 0: it is left out")
	f.DurationVar(&theirsPlain, "kube-proxy-plain", 0, "how long kube-proxy may take to serve --plain; 0: it is left out")
	f.DurationVar(&l.Every, "writer", 20*time.Millisecond, "time between two nftables transactions of another program")
	f.IntVar(&l.Changes, "changes", 60, "how often an endpoint is moved; of a slow one two minutes' worth")
	f.IntVar(&l.Starts, "restarts", 6, "how often fairlead starts again")
	f.BoolVar(&write, "write", true, "write docs/benchmarks.md")
	return cmd
}
