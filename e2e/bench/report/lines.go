// Package report saves and compares what benchmarks measure. Every measurement is a
// line of the Go benchmark format, which benchstat reads. Medians, intervals and
// tests are those of golang.org/x/perf/benchmath.
package report

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/sys/unix"
)

// Lines are the measurements of a run. Those of one name are in the order in which
// they were made.
type Lines struct {
	results []benchfmt.Result
}

// Add appends a line. name is the benchmark's and its keys, as in
// "Load/services=100/proxy=fairlead"; times is over how many events the values are
// taken.
func (l *Lines) Add(name string, times int, values ...benchfmt.Value) {
	l.results = append(l.results, benchfmt.Result{Name: benchfmt.Name(name), Iters: times, Values: values})
}

// Of returns a value for Add. A unit that ends in "/s" is a rate: more is
// better; of every other unit less is.
func Of(value float64, unit string) benchfmt.Value { return benchfmt.Value{Value: value, Unit: unit} }

// Time returns a time for Add. Its unit is "sec", or ends in it: "p99-sec".
func Time(d time.Duration, unit string) benchfmt.Value { return Of(d.Seconds(), unit) }

// Values returns all values of one unit that lines of this name have, in their order.
func (l *Lines) Values(name, unit string) (out []float64) {
	for _, r := range l.results {
		if value, ok := r.Value(unit); ok && string(r.Name) == name {
			out = append(out, value)
		}
	}
	return out
}

// Write writes the lines in the Go benchmark format: what kind of machine it was,
// which units are better when they are greater, and each measurement.
func (l *Lines) Write(w io.Writer) error {
	out := benchfmt.NewWriter(w)
	for _, m := range l.units() {
		if err := out.Write(m); err != nil {
			return err
		}
	}
	for _, r := range l.results {
		r.Config = machine()
		r.Name = fmt.Appendf(nil, "%s-%d", r.Name, runtime.GOMAXPROCS(0))
		if err := out.Write(&r); err != nil {
			return err
		}
	}
	return nil
}

// units returns whether more or less is better, of each unit in the order of its
// first use.
func (l *Lines) units() (out []*benchfmt.UnitMetadata) {
	seen := map[string]bool{}
	for _, r := range l.results {
		for _, v := range r.Values {
			if seen[v.Unit] {
				continue
			}
			seen[v.Unit] = true
			better := "lower"
			if gain(v.Unit) {
				better = "higher"
			}
			out = append(out, &benchfmt.UnitMetadata{
				UnitMetadataKey: benchfmt.UnitMetadataKey{Unit: v.Unit, Key: "better"}, OrigUnit: v.Unit, Value: better,
			})
		}
	}
	return out
}

// gain reports whether more of a unit is better.
func gain(unit string) bool { return strings.HasSuffix(unit, "/s") }

// machine returns the configuration that the lines of one machine share.
func machine() (out []benchfmt.Config) {
	for _, c := range [][2]string{{"goos", runtime.GOOS}, {"goarch", runtime.GOARCH}, {"kernel", kernel()}} {
		out = append(out, benchfmt.Config{Key: c[0], Value: []byte(c[1]), File: true})
	}
	return out
}

// Machine describes this machine: "2 cores, Linux 6.18.44".
func Machine() string { return fmt.Sprintf("%d cores, Linux %s", runtime.NumCPU(), kernel()) }

func kernel() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "?"
	}
	version, _, _ := strings.Cut(unix.ByteSliceToString(name.Release[:]), "-")
	return version
}
