// Command conformance runs the network tests of Kubernetes itself against fairlead, in labs
// of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/fairlead/fairlead/e2e/conformance"
	"github.com/fairlead/fairlead/e2e/debian"
	"github.com/fairlead/fairlead/e2e/lab"
)

func main() {
	var o conformance.Options
	groups := flag.String("groups", "", "loadbalancers, services or zones, or several separated by commas; all if empty")
	ways := flag.String("announce", "", "how addresses are announced: l2, bgp or direct, which is by layer 2 with the director, or several separated by commas; all if empty")
	flag.IntVar(&o.Procs, "procs", 6, "specs of a table at once")
	flag.StringVar(&o.Focus, "focus", "", "a regular expression for the names of specs, instead of the groups' own")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, o, *groups, *ways)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// duration is what is said at the start.
const duration = "Kubernetes' own tests: 25 minutes for all, 3 of them for zones. The first time they are built before: 10 minutes of CPU time"

func run(ctx context.Context, o conformance.Options, groups, ways string) (err error) {
	if o.Groups, err = conformance.Select(groups); err != nil {
		return err
	}
	if o.Ways, err = conformance.Ways(ways); err != nil {
		return err
	}
	if err := debian.Possible(lab.Cache()); err != nil {
		return err
	}
	fmt.Println(duration)
	if _, err := lab.SuitePrograms(ctx, lab.Options{}); err != nil {
		return err
	}
	var errs []error
	for _, one := range o.Labs() {
		if ctx.Err() == nil {
			errs = append(errs, inLab(ctx, one))
		}
	}
	return errors.Join(errs...)
}

// inLab runs groups in a lab with as many nodes as they ask for.
func inLab(ctx context.Context, o conformance.Options) (err error) {
	l, err := lab.Up(ctx, lab.Options{Nodes: o.Groups[0].Nodes, Fairlead: true, Services: conformance.Services})
	if err != nil {
		return err
	}
	defer l.Close()
	defer func() { err = errors.Join(err, l.Down(context.WithoutCancel(ctx))) }()
	if err = conformance.Run(ctx, l, o, os.Stdout); err != nil {
		l.Collect(ctx)
	}
	return err
}
