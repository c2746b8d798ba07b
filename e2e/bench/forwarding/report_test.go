package forwarding

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

var update = flag.Bool("update", false, "write the reports of testdata")

func TestChildrenIn(t *testing.T) {
	stat := "42 (a ) b) S 1 42 42 0 -1 4194560 9 9 0 0 100 20 3 4 20 0 7 0 12345 1 2 3\n"
	if got, err := childrenIn(stat); err != nil || got != 70*time.Millisecond {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := childrenIn("42 (a) S 1"); err == nil {
		t.Error("half a line was read")
	}
}

// The clock of another process is that which a process reads of itself.
func TestClockOf(t *testing.T) {
	var before, between, after unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.ClockGettime(clockOf(os.Getpid()), &between); err != nil {
		t.Fatal(err)
	}
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &after); err != nil {
		t.Fatal(err)
	}
	if between.Nano() < before.Nano() || between.Nano() > after.Nano() {
		t.Errorf("%d ns is not between %d and %d", between.Nano(), before.Nano(), after.Nano())
	}
}

func TestPodAddress(t *testing.T) {
	for i, want := range map[int]string{0: "198.18.128.1", 255: "198.18.129.0", 31_000: "198.18.249.25"} {
		if got := podAddress(i).String(); got != want {
			t.Errorf("pod %d: %s, want %s", i, got, want)
		}
	}
}

// result is one in which kube-proxy takes so many times what fairlead takes.
func result(services int, times float64) Result {
	of := func(times float64) Measured {
		d := func(base time.Duration) time.Duration { return time.Duration(times * float64(base)) }
		var rates []rate
		for _, pace := range []float64{5000, 7000, 6000} {
			rates = append(rates, rate{perSecond: pace / times, p50: d(38 * time.Microsecond), p99: d(204 * time.Microsecond)})
		}
		return Measured{
			loads: []load{
				{d(88 * time.Millisecond), d(48 * time.Millisecond), d(10 * time.Millisecond)},
				{d(90 * time.Millisecond), d(50 * time.Millisecond), d(10 * time.Millisecond)},
				{d(99 * time.Millisecond), d(60 * time.Millisecond), d(20 * time.Millisecond)},
			},
			changes: changes{took: []time.Duration{d(9 * time.Millisecond), d(10 * time.Millisecond), d(150 * time.Millisecond)}, cpu: d(time.Millisecond)},
			memory:  int64(times * (100 << 20)), rates: struct{ nodePort, vip, pod []rate }{rates, rates, rates},
		}
	}
	return Result{Services: services, KubeProxy: of(times), Fairlead: of(1)}
}

// reportOf is the report of results, without what is this machine's.
func reportOf(results ...Result) report.Report {
	b := Bench{Loads: 3, Changes: 3, Runs: 3, Length: time.Second}
	for _, r := range results {
		b.Sizes = append(b.Sizes, r.Services)
	}
	out := NewReport(b, Lines(results), 9*time.Minute)
	out.How = strings.ReplaceAll(out.How, report.Machine(), "2 cores, Linux 6.18.44")
	return out
}

func TestTargets(t *testing.T) {
	for _, c := range []struct {
		name    string
		results []Result
		missed  []string // a part of each target that is
	}{
		{"all met", []Result{result(100, 1), result(5000, 200), result(10000, 1)}, nil},
		{"half as good", []Result{result(100, 200), result(5000, 50)}, []string{"hundredth"}},
		{"too near to tell", []Result{result(5000, 19)}, []string{"hundredth"}},
		{"equal", []Result{result(1000, 1)}, []string{"20 times faster", "hundredth", "less memory"}},
		{"worse", []Result{result(5000, 0.5)}, []string{"20 times faster", "hundredth", "less memory", "NodePort", "VIP"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var missed []string
			for _, target := range reportOf(c.results...).Targets {
				if target.Verdict == report.Missed {
					missed = append(missed, target.What)
				}
			}
			if len(missed) != len(c.missed) {
				t.Fatalf("missed %q, want %q", missed, c.missed)
			}
			for i, part := range c.missed {
				if !strings.Contains(missed[i], part) {
					t.Errorf("missed %q, want %q", missed[i], part)
				}
			}
		})
	}
}

// TestReport: the lines of recorded figures, and the whole report of them.
func TestReport(t *testing.T) {
	results := []Result{result(100, 2), result(5000, 200)}
	r := reportOf(results...)
	golden(t, "proxy.md", r.Markdown(time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)))
	golden(t, "proxy.lines", measured(t, Lines(results[:1])))
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what is reported, but -update writes it:\n%s", path, got)
	}
}

// measured is what of the lines is not this machine's.
func measured(t *testing.T, l *report.Lines) (out string) {
	t.Helper()
	var all bytes.Buffer
	if err := l.Write(&all); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(all.String()) {
		if name, rest, ok := strings.Cut(line, " "); ok && strings.HasPrefix(name, "Benchmark") {
			out += name[:strings.LastIndex(name, "-")] + " " + rest
		}
	}
	return out
}
