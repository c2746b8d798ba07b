package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/bench/size"
)

func sizeCommand() *cobra.Command {
	var z size.Size
	var write bool
	cmd := &cobra.Command{
		Use: "size", Args: cobra.NoArgs,
		Short: "Count what many agents write and watch, at rest, when a node is lost and while agents are updated",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := os.MkdirTemp("", "fairlead-size-")
			if err != nil {
				return err
			}
			z.Out = cmd.ErrOrStderr()
			got, err := z.Run(cmd.Context(), dir)
			if err != nil {
				return fmt.Errorf("%w; logs are in %s", err, dir)
			}
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			r := got.Report()
			fmt.Fprint(cmd.OutOrStdout(), r.Text())
			if err := save(cmd, got.Lines()); err != nil {
				return err
			}
			return finish(r, write)
		},
	}
	f := cmd.Flags()
	f.IntVar(&z.Agents, "agents", 500, "how many agents, each on a node of its own; at least 20")
	f.IntVar(&z.Services, "services", 50_000, "how many Services; one for each agent has an address")
	f.DurationVar(&z.Rest, "rest", time.Minute, "how long to count at rest")
	f.DurationVar(&z.Lost, "lost", 30*time.Second, "how long to count after a node was lost")
	f.IntVar(&z.Restarts, "restarts", 30, "how many agents are restarted, one after the other")
	f.DurationVar(&z.Pause, "pause", time.Second, "how long each of them is away")
	f.BoolVar(&write, "write", true, "write docs/benchmarks.md")
	return cmd
}
