// Package probe makes many requests, each over a connection of its own, and
// counts what came of them: failures by reason, answers by pod, the client
// addresses that the pods saw, and how long it took.
package probe

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Probe is what to ask, and how.
type Probe struct {
	Target   *url.URL      // http, tcp or udp
	Requests int           // each over a new connection
	Workers  int           // requests at the same time
	Interval time.Duration // between the starts of one worker's requests
	Timeout  time.Duration // of one request, with its name lookup
}

// Outcome is what came of one request.
type Outcome struct {
	Answer Answer
	Err    error
	Took   time.Duration
}

// Run returns an outcome for every request that was made before ctx ended.
func (p Probe) Run(ctx context.Context) []Outcome {
	turns := make(chan struct{}, p.Requests)
	for range p.Requests {
		turns <- struct{}{}
	}
	close(turns)
	var mu sync.Mutex
	var all []Outcome
	var wg sync.WaitGroup
	for range min(p.Workers, p.Requests) {
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
				pause(ctx, p.Interval-time.Since(begin))
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

func (p Probe) once(ctx context.Context) Outcome {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	begin := time.Now()
	a, err := p.ask(ctx)
	return Outcome{Answer: a, Err: err, Took: time.Since(begin)}
}

func (p Probe) ask(ctx context.Context) (Answer, error) {
	switch p.Target.Scheme {
	case "http":
		return askHTTP(ctx, p.Target.String())
	case "tcp", "udp":
		return askLine(ctx, p.Target.Scheme, p.Target.Host)
	}
	return Answer{}, fmt.Errorf("unknown scheme %q", p.Target.Scheme)
}

func askHTTP(ctx context.Context, target string) (Answer, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return Answer{}, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return Answer{}, fmt.Errorf("status %d", response.StatusCode)
	}
	var a Answer
	if err := json.NewDecoder(response.Body).Decode(&a); err != nil {
		return a, fmt.Errorf("bad answer: %w", err)
	}
	return a, nil
}

func askLine(ctx context.Context, network, address string) (Answer, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return Answer{}, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	if network == "udp" {
		if _, err := conn.Write([]byte("hello\n")); err != nil {
			return Answer{}, err
		}
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		return Answer{}, err
	}
	var a Answer
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
