package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/url"
	"os"
	"time"

	"github.com/fairlead/fairlead/e2e/probe"
)

func probeCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("hello probe", flag.ExitOnError)
	p := probe.Probe{}
	flags.IntVar(&p.Requests, "n", 200, "requests, each over a new connection; 0: until standard input ends")
	flags.IntVar(&p.Workers, "c", 2, "requests at the same time")
	flags.DurationVar(&p.Interval, "i", 0, "time between the starts of one worker's requests")
	flags.DurationVar(&p.Every, "every", 0, "begin a request that often, whatever becomes of the others; instead of -c and -i")
	each := flags.Bool("each", false, "tell of each request when it began, how long it took and whether it was answered")
	flags.StringVar(&p.Family, "family", "", "4 or 6: only addresses of this family")
	flags.BoolVar(&p.Keep, "keep", false, "http and udp: make all requests of a worker over one connection or socket")
	flags.DurationVar(&p.Timeout, "timeout", 2*time.Second, "limit of one request")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 || p.Requests < 0 || p.Workers < 1 || p.Keep && p.Every > 0 {
		return errors.New("usage: hello probe [-n N] [-c N] [-i DURATION] [-every DURATION] [-each] [-timeout DURATION] [-family 4|6] [-keep] http://HOST:PORT/|tcp://HOST:PORT|udp://HOST:PORT")
	}
	var err error
	if p.Target, err = url.Parse(flags.Arg(0)); err != nil {
		return err
	}
	if p.Requests == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	all := p.Run(ctx)
	report := probe.Summarise(p.Target.String(), all)
	if *each {
		report.Each = probe.List(all)
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}
