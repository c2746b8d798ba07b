package forwarding

import (
	"strings"
	"testing"
	"time"
)

func TestCPUIn(t *testing.T) {
	stat := "42 (a ) b) S 1 42 42 0 -1 4194560 9 9 0 0 100 20 3 4 20 0 7 0 12345 1 2 3\n"
	if got, err := cpuIn(stat); err != nil || got != 1270*time.Millisecond {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := cpuIn("42 (a) S 1"); err == nil {
		t.Error("half a line was read")
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
		rates := []rate{{perSecond: 5000 / times}, {perSecond: 7000 / times}, {perSecond: 6000 / times}}
		return Measured{
			loads:   []load{{d(90), d(50), d(10)}, {d(90 * time.Millisecond), d(50 * time.Millisecond), d(10 * time.Millisecond)}, {d(time.Hour), d(time.Hour), d(time.Hour)}},
			changes: changes{took: []time.Duration{d(9 * time.Millisecond), d(10 * time.Millisecond), d(150 * time.Millisecond)}, cpu: d(time.Millisecond)},
			memory:  int64(times * (100 << 20)), rates: struct{ nodePort, vip, pod []rate }{rates, rates, rates},
		}
	}
	return Result{Services: services, KubeProxy: of(times), Fairlead: of(1)}
}

func TestTargets(t *testing.T) {
	for _, c := range []struct {
		name    string
		results []Result
		missed  []string
	}{
		{"all met", []Result{result(100, 1), result(5000, 200), result(10000, 1)}, nil},
		{"half as good", []Result{result(100, 200), result(5000, 50)}, []string{"hundredth"}},
		{"equal", []Result{result(1000, 1)}, []string{"20 times faster", "hundredth", "less memory"}},
		{"worse", []Result{result(5000, 0.5)}, []string{"20 times faster", "hundredth", "less memory", "NodePort", "VIP"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			missed := NewReport(Bench{}, c.results).Missed()
			if got := len(strings.Split(missed, ";")); missed != "" && got != len(c.missed) || missed == "" && c.missed != nil {
				t.Errorf("missed %q, want %q", missed, c.missed)
			}
			for _, part := range c.missed {
				if !strings.Contains(missed, part) {
					t.Errorf("missed %q, want %q in it", missed, part)
				}
			}
		})
	}
}

func TestReport(t *testing.T) {
	r := NewReport(Bench{Loads: 3}, []Result{result(100, 200), result(5000, 200)})
	for _, text := range []string{r.Text(), r.Markdown()} {
		for _, want := range []string{"5,000", "first load, programming", "10 s", "50 ms", "NodePort, connections/s", "6,000", "met"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
	}
	if len(r.Chart().SVG()) == 0 {
		t.Error("no picture")
	}
}
