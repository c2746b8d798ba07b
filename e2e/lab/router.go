package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// The AS numbers of the lab, from those for documentation (RFC 5398).
const (
	NodeASN   = 64500
	RouterASN = 64501
)

// Established is the state of a session that works.
const Established = "Established"

// Speaker is a program that speaks BGP and BFD on the lab's router.
type Speaker interface {
	// Sessions are the states of the BGP sessions, by what the program calls them.
	Sessions(context.Context) (map[string]string, error)
	// Watched counts the BFD sessions that are up.
	Watched(context.Context) (int, error)
	// Shell runs a command of the program's own shell.
	Shell(ctx context.Context, command string) (string, error)
	// Tables are the commands that show the sessions and the routes.
	Tables() []string

	start(context.Context) error
}

// speakers are the programs that there are, by name.
func (l *Lab) speaker(name string) (Speaker, error) {
	switch name {
	case "frr":
		return frr{l}, nil
	case "bird":
		return bird{l}, nil
	}
	return nil, fmt.Errorf("no router %q: frr or bird", name)
}

// routerPrograms are the names of the processes that a Speaker may have.
var routerPrograms = []string{"router-bgpd", "router-bfdd", "router-zebra", "router-bird"}

// StartBGP makes the router a BGP speaker, "frr" or "bird", in the place of any
// other: it waits for a session by each family from every node and puts what they
// announce into its kernel, shared between the nodes connection by connection. It is
// ready for BFD at 50 ms x 3 with nodes that want it.
func (l *Lab) StartBGP(ctx context.Context, name string) (Speaker, error) {
	s, err := l.speaker(name)
	if err != nil {
		return nil, err
	}
	if _, ok := l.running(map[string]string{"frr": "router-bgpd", "bird": "router-bird"}[name]); ok {
		return s, nil
	}
	step := l.progress.Begin("router: %s", strings.ToUpper(name))
	return s, step.Done(l.startBGP(ctx, s))
}

func (l *Lab) startBGP(ctx context.Context, s Speaker) error {
	if l.described != nil { // the maker of that router made it share connections too
		return s.start(ctx)
	}
	if err := l.StopBGP(ctx); err != nil {
		return err
	}
	if err := sysctl(ctx, prefix+Router, "net.ipv4.fib_multipath_hash_policy=1", "net.ipv6.fib_multipath_hash_policy=1"); err != nil {
		return err
	}
	return s.start(ctx)
}

// StopBGP ends what StartBGP has started, and the routes by it.
func (l *Lab) StopBGP(ctx context.Context) error {
	var errs []error
	for _, name := range routerPrograms {
		errs = append(errs, l.stop(ctx, name))
	}
	for _, family := range []string{"-4", "-6"} {
		for _, by := range []string{"bgp", "bird"} {
			_, err := run(ctx, "ip", "-n", prefix+Router, family, "route", "flush", "proto", by)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
