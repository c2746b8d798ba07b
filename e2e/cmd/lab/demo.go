package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
)

func demoCommand() *cobra.Command {
	announce, router := "arp", "frr"
	opt := lab.Options{Fairlead: true}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Bring the cluster up, install fairlead, measure every path, tear down ($KEEP=1: do not)",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			show, ok := shows[announce]
			if !ok {
				return fmt.Errorf("announce by %q: arp or bgp", announce)
			}
			return runDemo(c.Context(), opt, show(router), os.Getenv("KEEP") == "1")
		},
	}
	c.Flags().StringVar(&announce, "announce", announce, "how addresses are announced: arp (and NDP), or bgp")
	cniFlag(c, &opt)
	c.Flags().StringVar(&router, "router", router, "what the router runs that they are announced to by bgp: frr or bird")
	return c
}

// summary is what a demo found, on one line.
type summary interface{ Summary() string }

// show is a demo in a lab.
type show func(context.Context, *lab.Lab) (summary, error)

// shows are the demos, by how addresses are announced.
var shows = map[string]func(router string) show{"arp": func(string) show { return showARP }, "bgp": showBGP}

func runDemo(ctx context.Context, opt lab.Options, show show, keep bool) error {
	l, err := lab.Up(ctx, opt)
	if err != nil && ctx.Err() != nil {
		return errors.New("demo: interrupted")
	}
	if err != nil {
		return fmt.Errorf("demo: failed: %w", err)
	}
	defer l.Close()
	result, err := show(ctx, l)
	switch {
	case ctx.Err() != nil:
		err = errors.New("demo: interrupted")
	case err != nil:
		err = fmt.Errorf("demo: failed: %w\nlogs: %s, state at the failure: %s", err, l.Logs(), l.Collect(ctx))
	}
	if keep && ctx.Err() == nil {
		printReach(l)
	} else if down := l.Down(context.WithoutCancel(ctx)); down != nil {
		err = errors.Join(err, fmt.Errorf("demo: failed: tear-down: %w", down))
	}
	if err == nil {
		fmt.Println(result.Summary())
	}
	return err
}

func showARP(ctx context.Context, l *lab.Lab) (summary, error) {
	if err := l.InstallFairlead(ctx); err != nil {
		return nil, err
	}
	return demo.Run(ctx, l, l.Root(), os.Stdout)
}

func showBGP(router string) show {
	return func(ctx context.Context, l *lab.Lab) (summary, error) {
		speaker, err := l.StartBGP(ctx, router)
		if err != nil {
			return nil, err
		}
		if err := l.InstallFairlead(ctx); err != nil {
			return nil, err
		}
		return demo.RunBGP(ctx, l, speaker, os.Stdout)
	}
}
