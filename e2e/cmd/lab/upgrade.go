package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/upgrade"
)

func upgradeCommand() *cobra.Command {
	var from string
	c := &cobra.Command{
		Use:   "upgrade",
		Short: "Bring a cluster up with an earlier revision, upgrade it to this checkout and back under load, and remove it",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return upgradeFrom(c.Context(), from, c)
		},
	}
	c.Flags().StringVar(&from, "from", "", "release, tag or commit to begin with; the newest release if empty")
	return c
}

func upgradeFrom(ctx context.Context, from string, c *cobra.Command) (err error) {
	root, err := lab.Checkout()
	if err != nil {
		return err
	}
	earlier, remove, err := upgrade.Checkout(ctx, root, from)
	if err != nil {
		return err
	}
	defer remove()
	l, err := lab.Up(ctx, lab.Options{Fairlead: true})
	if err != nil {
		return err
	}
	defer l.Close()
	defer func() { err = errors.Join(err, l.Down(context.WithoutCancel(ctx))) }()
	if err = upgrade.Run(ctx, l, earlier, c.OutOrStdout()); err != nil {
		l.Collect(ctx)
	}
	return err
}
