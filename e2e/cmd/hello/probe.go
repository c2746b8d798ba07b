package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net/url"
	"os"
	"time"

	"github.com/fairlead/fairlead/e2e/probe"
)

func probeCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("hello probe", flag.ExitOnError)
	p := probe.Probe{}
	flags.IntVar(&p.Requests, "n", 200, "requests, each over a new connection")
	flags.IntVar(&p.Workers, "c", 2, "requests at the same time")
	flags.DurationVar(&p.Interval, "i", 0, "time between the starts of one worker's requests")
	flags.DurationVar(&p.Timeout, "timeout", 2*time.Second, "limit of one request")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 || p.Requests < 1 || p.Workers < 1 {
		return errors.New("usage: hello probe [-n N] [-c N] [-i DURATION] [-timeout DURATION] http://HOST:PORT/|tcp://HOST:PORT|udp://HOST:PORT")
	}
	var err error
	if p.Target, err = url.Parse(flags.Arg(0)); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(probe.Summarise(p.Target.String(), p.Run(ctx)))
}
