// Package demo does with a lab what a user does first: a pool, six web
// servers, a Service of type LoadBalancer; and measures every way to reach
// them, by IPv4 and by IPv6.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/fairlead/fairlead/e2e/lab"
)

// Result is what the demo found.
type Result struct {
	Service    Service
	Announcers []Announcer // of Service.ExternalIPs, in their order
	Rows       []Row
}

// Run applies the examples below root, waits for the addresses, measures every
// path to them, and prints the table to out. The error says what is not as it
// should be; the Result is as far as it got.
func Run(ctx context.Context, l *lab.Lab, root string, out io.Writer) (Result, error) {
	var r Result
	s, err := Deploy(ctx, l, root)
	if err != nil {
		return r, err
	}
	r.Service = s
	step := l.Progress().Begin("measuring %d paths", len(Paths(l, s)))
	r.Rows, err = Measure(ctx, l, s, step)
	if step.Done(err) != nil {
		return r, err
	}
	for _, ip := range s.ExternalIPs {
		a, lost := FindAnnouncer(ctx, l, ip)
		r.Announcers, err = append(r.Announcers, a), errors.Join(err, lost)
	}
	print(out, r)
	return r, errors.Join(err, r.objections())
}

// Summary is the last line of a demo that went well.
func (r Result) Summary() string {
	good := len(r.Rows) - len(objections(r.Rows))
	return fmt.Sprintf("demo: ok EXTERNAL-IP=%s announced-by=%s paths=%d/%d pods=%d/%d",
		r.Service.ExternalIPs[0], r.Announcers[0].Node, good, len(r.Rows), pods(r.Rows), Replicas)
}

// pods is the least number of pods that a path reached.
func pods(rows []Row) int {
	least := Replicas
	for _, row := range rows {
		least = min(least, row.Report.Distinct)
	}
	return least
}

func (r Result) objections() error { return errors.Join(objections(r.Rows)...) }

// objections are of the rows that are not all right.
func objections(rows []Row) []error {
	var errs []error
	for _, row := range rows {
		if err := row.Objection(); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}
