package report

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/perf/benchfmt"
)

func recorded() *Lines {
	l := &Lines{}
	l.Add("Load/proxy=a", 1, Time(1500*time.Millisecond, "program-sec"), Of(3<<20, "B"))
	l.Add("Connect/proxy=a", 1, Of(31250.5, "conn/s"), Time(38*time.Microsecond, "p50-sec"))
	l.Add("Connect/proxy=a", 1, Of(32000, "conn/s"), Time(37*time.Microsecond, "p50-sec"))
	l.Add("Connect/proxy=b", 20, Of(16000, "conn/s"), Of(0, "failed"))
	return l
}

func TestWrite(t *testing.T) {
	var out bytes.Buffer
	if err := recorded().Write(&out); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`Unit program-sec better=lower
Unit B better=lower
Unit conn/s better=higher
Unit p50-sec better=lower
Unit failed better=lower
goos: linux
goarch: %s
kernel: %s

BenchmarkLoad/proxy=a-N 1 1.5 program-sec 3.145728e+06 B
BenchmarkConnect/proxy=a-N 1 31250.5 conn/s 3.8e-05 p50-sec
BenchmarkConnect/proxy=a-N 1 32000 conn/s 3.7e-05 p50-sec
BenchmarkConnect/proxy=b-N 20 16000 conn/s 0 failed
`, runtime.GOARCH, kernel())
	if want = strings.ReplaceAll(want, "-N ", fmt.Sprintf("-%d ", runtime.GOMAXPROCS(0))); out.String() != want {
		t.Errorf("written:\n%s\nwant:\n%s", out.String(), want)
	}
}

// TestWrittenIsRead: what is written, the format's own reader takes.
func TestWrittenIsRead(t *testing.T) {
	var out bytes.Buffer
	if err := recorded().Write(&out); err != nil {
		t.Fatal(err)
	}
	var rates []float64
	r := benchfmt.NewReader(&out, "lines")
	for r.Scan() {
		switch one := r.Result().(type) {
		case *benchfmt.Result:
			if v, ok := one.Value("conn/s"); ok {
				rates = append(rates, v)
			}
		case *benchfmt.SyntaxError:
			t.Error(one)
		}
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	if want := []float64{31250.5, 32000, 16000}; !slices.Equal(rates, want) {
		t.Errorf("rates %v, want %v", rates, want)
	}
	for unit, want := range map[string]int{"conn/s": 1, "p50-sec": -1, "B": -1} {
		if got := r.Units().GetBetter(unit); got != want {
			t.Errorf("more %s is better: %d, want %d", unit, got, want)
		}
	}
}

func TestValues(t *testing.T) {
	l := recorded()
	if got, want := l.Values("Connect/proxy=a", "conn/s"), []float64{31250.5, 32000}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := l.Values("Connect/proxy=a", "B"); got != nil {
		t.Errorf("%v of a unit that it does not have", got)
	}
}
