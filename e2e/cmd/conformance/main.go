// Command conformance runs the network tests of Kubernetes itself against fairlead, in
// the lab that is up or in one of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/fairlead/fairlead/e2e/conformance"
	"github.com/fairlead/fairlead/e2e/lab"
)

func main() {
	var o conformance.Options
	groups := flag.String("groups", "", "services, loadbalancers or zones, or several separated by commas; all if empty")
	flag.StringVar(&o.Announce, "announce", "l2", "how addresses are announced: l2 or bgp")
	flag.IntVar(&o.Procs, "procs", 6, "specs of a group at once")
	flag.StringVar(&o.Focus, "focus", "", "a regular expression for the names of specs, instead of the groups' own")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, o, *groups)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o conformance.Options, groups string) (err error) {
	if o.Announce != "l2" && o.Announce != "bgp" {
		return fmt.Errorf("-announce=%s is neither l2 nor bgp", o.Announce)
	}
	if o.Groups, err = conformance.Select(groups); err != nil {
		return err
	}
	fmt.Println("Kubernetes' own tests: 25 minutes for all. The first time they are built before, 10 minutes of CPU time")
	if _, err := lab.SuitePrograms(ctx, lab.Options{}); err != nil {
		return err
	}
	var errs []error
	for _, nodes := range []int{3, 6} {
		part := o
		part.Groups = slices.DeleteFunc(slices.Clone(o.Asked()), func(g conformance.Group) bool { return g.Nodes != nodes })
		if len(part.Groups) > 0 && ctx.Err() == nil {
			errs = append(errs, inLab(ctx, part, nodes))
		}
	}
	return errors.Join(errs...)
}

// inLab runs groups in a lab of so many nodes.
func inLab(ctx context.Context, o conformance.Options, nodes int) (err error) {
	l, err := lab.Up(ctx, lab.Options{Nodes: nodes, Fairlead: true, Services: conformance.Services})
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
