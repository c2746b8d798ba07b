package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/lab"
)

func nodeCommand() *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "Cut a node's power, or freeze it"}
	c.AddCommand(
		onNode("stop NODE", "Cut the power: link down, every process killed, kernel state gone", (*lab.Lab).StopNode),
		onNode("start NODE", "Power a stopped node on and wait until it is Ready", (*lab.Lab).StartNode),
		onNode("freeze NODE", "Stop every process where it stands; the node's kernel goes on", func(l *lab.Lab, _ context.Context, name string) error { return l.FreezeNode(name) }),
		onNode("thaw NODE", "Let a frozen node continue", func(l *lab.Lab, _ context.Context, name string) error { return l.ThawNode(name) }),
	)
	return c
}

func onNode(use, short string, act func(*lab.Lab, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return withLab(func(l *lab.Lab) error { return act(l, c.Context(), args[0]) })
		},
	}
}

func apiCommand() *cobra.Command {
	c := &cobra.Command{Use: "api", Short: "Stop or start the API server"}
	c.AddCommand(
		onAPI("stop", "Kill the API server", (*lab.Lab).StopAPIServer),
		onAPI("start", "Start the API server and wait until it is ready", (*lab.Lab).StartAPIServer),
	)
	return c
}

func onAPI(use, short string, act func(*lab.Lab, context.Context) error) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return withLab(func(l *lab.Lab) error { return act(l, c.Context()) })
		},
	}
}
