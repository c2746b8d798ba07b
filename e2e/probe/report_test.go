package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestSummarise(t *testing.T) {
	all := []Outcome{
		{Answer: Answer{Pod: "a", Client: "192.0.2.2"}, Took: 3 * time.Millisecond},
		{Answer: Answer{Pod: "b", Client: "192.0.2.1"}, Took: time.Millisecond},
		{Answer: Answer{Pod: "a", Client: "192.0.2.1"}, Took: 2 * time.Millisecond},
		{Err: fmt.Errorf("dial: %w", syscall.ECONNREFUSED), Took: time.Hour},
		{Err: context.DeadlineExceeded},
	}
	r := Summarise("x", all)
	if r.Requests != 5 || r.Failures != 2 || r.Distinct != 2 || r.Pods["a"] != 2 {
		t.Errorf("report = %+v", r)
	}
	if r.Reasons["connection refused"] != 1 || r.Reasons["timeout"] != 1 {
		t.Errorf("reasons = %v", r.Reasons)
	}
	if len(r.Clients) != 2 || r.Clients[0] != "192.0.2.1" {
		t.Errorf("clients = %v", r.Clients)
	}
	if r.P50 != 2 || r.P99 != 3 {
		t.Errorf("p50 = %v, p99 = %v", r.P50, r.P99)
	}
}

func TestGap(t *testing.T) {
	begin := time.Now()
	at := func(ms int, err error) Outcome {
		return Outcome{At: begin.Add(time.Duration(ms) * time.Millisecond), Took: time.Millisecond, Err: err}
	}
	lost := errors.New("lost")
	for _, test := range []struct {
		name string
		all  []Outcome
		want float64
	}{
		{"nothing", nil, 0},
		{"all answered", []Outcome{at(0, nil), at(10, nil), at(20, nil)}, 10},
		{"one lost", []Outcome{at(20, nil), at(10, lost), at(0, nil)}, 20},
		{"the first lost", []Outcome{at(0, lost), at(10, nil), at(15, nil)}, 11},
		{"the last lost", []Outcome{at(0, nil), at(10, lost), at(30, lost)}, 30},
		{"all lost", []Outcome{at(0, lost), at(10, lost)}, 11},
	} {
		if got := Summarise("x", test.all).Gap; got != test.want {
			t.Errorf("%s: gap = %v ms, want %v", test.name, got, test.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	tests := []struct {
		values []time.Duration
		p      int
		want   time.Duration
	}{
		{nil, 50, 0}, {hundred[:1], 50, 1}, {hundred[:1], 99, 1},
		{hundred[:2], 50, 1}, {hundred[:3], 50, 2}, {hundred, 50, 50}, {hundred, 99, 99}, {hundred, 100, 100},
	}
	for _, test := range tests {
		if got := percentile(test.values, test.p); got != test.want {
			t.Errorf("percentile of %d values, %d = %v, want %v", len(test.values), test.p, got, test.want)
		}
	}
}

func TestReason(t *testing.T) {
	tests := []struct {
		err  error
		want string
	}{
		{&net.DNSError{Err: "no such host", IsTimeout: true}, "name not resolved"},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, "connection reset"},
		{fmt.Errorf("dial: %w", syscall.EHOSTUNREACH), "no route to host"},
		{errors.New("odd\nin two lines"), "odd"},
	}
	for _, test := range tests {
		if got := reason(test.err); got != test.want {
			t.Errorf("reason(%v) = %q, want %q", test.err, got, test.want)
		}
	}
}

// TestPace: requests begin on time though none is answered.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target, err := url.Parse("none://x")
		if err != nil {
			t.Fatal(err)
		}
		all := List(Probe{Target: target, Requests: 5, Every: 20 * time.Millisecond, Timeout: time.Second}.Run(t.Context()))
		if len(all) != 5 || all[4].At.Sub(all[0].At) != 80*time.Millisecond || all[0].OK {
			t.Errorf("%+v", all)
		}
	})
}
