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
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Probe is what to ask, and how.
type Probe struct {
	Target   *url.URL      // http, tcp or udp
	Family   string        // "4" or "6" alone, of a name that has both; any if empty
	Keep     bool          // http and udp: each worker makes all its requests over one connection or socket, and fails when it is lost; not with Every
	Requests int           // each over a new connection unless Keep; 0: until the context ends
	Workers  int           // requests at the same time
	Interval time.Duration // between the starts of one worker's requests
	Every    time.Duration // if set, a request begins that often, whatever becomes of the others, instead of Workers and Interval
	Timeout  time.Duration // of one request, with its name lookup
}

// Outcome is what came of one request.
type Outcome struct {
	Answer Answer
	Err    error
	At     time.Time // when it began
	Took   time.Duration
}

// Run returns an outcome for every request that was begun before ctx ended.
func (p Probe) Run(ctx context.Context) []Outcome {
	if p.Every > 0 {
		return p.pace(ctx)
	}
	var turns atomic.Int64
	more := func() bool { return ctx.Err() == nil && (p.Requests == 0 || turns.Add(1) <= int64(p.Requests)) }
	var mu sync.Mutex
	var all []Outcome
	var wg sync.WaitGroup
	for range p.Workers {
		wg.Go(func() {
			w := &worker{Probe: p, transport: p.transport()}
			defer w.close()
			for more() {
				o := w.once(context.WithoutCancel(ctx))
				mu.Lock()
				all = append(all, o)
				mu.Unlock()
				pause(ctx, p.Interval-time.Since(o.At))
			}
		})
	}
	wg.Wait()
	return all
}

// pace begins a request at every tick.
func (p Probe) pace(ctx context.Context) (all []Outcome) {
	transport := p.transport()
	ticker := time.NewTicker(p.Every)
	defer ticker.Stop()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for n := 0; ctx.Err() == nil && (p.Requests == 0 || n < p.Requests); n++ {
		wg.Go(func() {
			w := &worker{Probe: p, transport: transport}
			o := w.once(context.WithoutCancel(ctx))
			mu.Lock()
			defer mu.Unlock()
			all = append(all, o)
		})
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
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

// worker makes one request after the other.
type worker struct {
	Probe
	transport transport
	socket    net.Conn // udp with Keep; nil before the first request
}

func (w *worker) close() {
	w.transport.CloseIdleConnections()
	if w.socket != nil {
		_ = w.socket.Close()
	}
}

func (w *worker) once(ctx context.Context) Outcome {
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	begin := time.Now()
	a, err := w.ask(ctx)
	return Outcome{Answer: a, Err: err, At: begin, Took: time.Since(begin)}
}

func (w *worker) ask(ctx context.Context) (Answer, error) {
	switch w.Target.Scheme {
	case "http":
		return askHTTP(ctx, w.transport, w.Target.String())
	case "tcp", "udp":
		return w.askLine(ctx)
	}
	return Answer{}, fmt.Errorf("unknown scheme %q", w.Target.Scheme)
}

// transport is what http asks by: one worker's with Keep.
type transport interface {
	http.RoundTripper
	CloseIdleConnections()
}

func (p Probe) transport() transport {
	if p.Keep {
		return &kept{network: "tcp" + p.Family}
	}
	return &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network+p.Family, address)
		},
	}
}

// errSilent is the failure of a request whose connection was made.
var errSilent = errors.New("no answer")

func askHTTP(ctx context.Context, by http.RoundTripper, target string) (Answer, error) {
	connected := false
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }}
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodGet, target, nil)
	if err != nil {
		return Answer{}, err
	}
	response, err := by.RoundTrip(request)
	if err != nil && connected && ctx.Err() != nil {
		err = errors.Join(errSilent, err)
	}
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return Answer{}, fmt.Errorf("status %d", response.StatusCode)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return Answer{}, err
	}
	var a Answer
	if err := json.Unmarshal(body, &a); err != nil {
		return a, fmt.Errorf("bad answer: %w", err)
	}
	return a, nil
}

// dial opens a connection, or returns the socket that is kept.
func (w *worker) dial(ctx context.Context) (conn net.Conn, done func(), err error) {
	keep := w.Keep && w.Target.Scheme == "udp"
	if keep && w.socket != nil {
		return w.socket, func() {}, nil
	}
	var dialer net.Dialer
	conn, err = dialer.DialContext(ctx, w.Target.Scheme+w.Family, w.Target.Host)
	if err != nil {
		return nil, nil, err
	}
	if keep {
		w.socket = conn
		return conn, func() {}, nil
	}
	return conn, func() { _ = conn.Close() }, nil
}

func (w *worker) askLine(ctx context.Context) (Answer, error) {
	conn, done, err := w.dial(ctx)
	if err != nil {
		return Answer{}, err
	}
	defer done()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if w.Target.Scheme == "udp" {
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
	case errors.Is(err, errLost):
		return errLost.Error()
	case errors.Is(err, errSilent):
		return errSilent.Error()
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
