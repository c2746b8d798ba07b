package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// probe makes requests, each over a connection of its own.
type probe struct {
	target   *url.URL
	requests int
	workers  int
	interval time.Duration // between the starts of one worker's requests
	timeout  time.Duration // of one request, with its name lookup
}

// outcome is what came of one request.
type outcome struct {
	answer answer
	err    error
	took   time.Duration
}

func probeCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("hello probe", flag.ExitOnError)
	p := probe{}
	flags.IntVar(&p.requests, "n", 200, "requests, each over a new connection")
	flags.IntVar(&p.workers, "c", 2, "requests at the same time")
	flags.DurationVar(&p.interval, "i", 0, "time between the starts of one worker's requests")
	flags.DurationVar(&p.timeout, "timeout", 2*time.Second, "limit of one request")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 || p.requests < 1 || p.workers < 1 {
		return errors.New("usage: hello probe [-n N] [-c N] [-i DURATION] [-timeout DURATION] http://HOST:PORT/|tcp://HOST:PORT|udp://HOST:PORT")
	}
	var err error
	if p.target, err = url.Parse(flags.Arg(0)); err != nil {
		return err
	}
	report := summarise(p.run(ctx))
	report.Target = p.target.String()
	return json.NewEncoder(os.Stdout).Encode(report)
}

// run returns an outcome for every request that was made before ctx ended.
func (p probe) run(ctx context.Context) []outcome {
	turns := make(chan struct{}, p.requests)
	for range p.requests {
		turns <- struct{}{}
	}
	close(turns)
	var mu sync.Mutex
	var all []outcome
	var wg sync.WaitGroup
	for range min(p.workers, p.requests) {
		wg.Go(func() {
			for range turns {
				if ctx.Err() != nil {
					return
				}
				begin := time.Now()
				o := p.once(ctx)
				mu.Lock()
				all = append(all, o)
				mu.Unlock()
				pause(ctx, p.interval-time.Since(begin))
			}
		})
	}
	wg.Wait()
	return all
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (p probe) once(ctx context.Context) outcome {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	begin := time.Now()
	a, err := p.ask(ctx)
	return outcome{answer: a, err: err, took: time.Since(begin)}
}

func (p probe) ask(ctx context.Context) (answer, error) {
	switch p.target.Scheme {
	case "http":
		return askHTTP(ctx, p.target.String())
	case "tcp", "udp":
		return askLine(ctx, p.target.Scheme, p.target.Host)
	}
	return answer{}, fmt.Errorf("unknown scheme %q", p.target.Scheme)
}

func askHTTP(ctx context.Context, target string) (answer, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return answer{}, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return answer{}, fmt.Errorf("status %d", response.StatusCode)
	}
	var a answer
	if err := json.NewDecoder(response.Body).Decode(&a); err != nil {
		return a, fmt.Errorf("bad answer: %w", err)
	}
	return a, nil
}

func askLine(ctx context.Context, network, address string) (answer, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	if network == "udp" {
		if _, err := conn.Write([]byte("hello\n")); err != nil {
			return answer{}, err
		}
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		return answer{}, err
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return a, fmt.Errorf("bad answer: %w", err)
	}
	return a, nil
}

// reason names the kind of an error, so that equal failures are counted
// together.
func reason(err error) string {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &dns):
		return "name not resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	case errors.Is(err, syscall.EHOSTUNREACH):
		return "no route to host"
	case errors.Is(err, syscall.ENETUNREACH):
		return "network unreachable"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text
}
