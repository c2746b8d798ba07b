package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the pictures of testdata")

func latency() Chart {
	return Chart{
		Title: "Time until a change works & holds", X: Axis{Label: "Services", Log: true, Format: Count}, Y: Axis{Label: "time", Log: true, Format: Seconds},
		Series: []Series{
			{Name: "one", Points: []Point{{100, 0.02}, {1000, 0.2}, {10000, 2}}},
			{Name: "other <2>", Points: []Point{{100, 0.004}, {1000, 0.005}, {10000, 0}, {math.NaN(), 1}}, Dashed: true},
		},
	}
}

func success() Chart {
	low, high := 0.0, 100.0
	return Chart{
		Title: "Answers", X: Axis{Label: "s after the fault"}, Y: Axis{Label: "%", Low: &low, High: &high},
		Series: []Series{{Name: "new connections", Steps: true, Bare: true, Points: []Point{{-1, 100}, {0, 40}, {0.5, 100}, {3, 100}}}},
	}
}

func TestSVG(t *testing.T) {
	for name, chart := range map[string]Chart{"latency": latency(), "success": success(), "empty": {Title: "Nothing"}} {
		t.Run(name, func(t *testing.T) {
			got, path := chart.SVG(), filepath.Join("testdata", name+".svg")
			wantXML(t, got)
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s is not what is drawn; -update writes it", path)
			}
		})
	}
}

func wantXML(t *testing.T, data []byte) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(data))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if s := string(data); strings.Contains(s, "NaN") || strings.Contains(s, "Inf") {
		t.Error("a value that is no number is drawn")
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		axis   Axis
		values []float64
		want   []float64
	}{
		{Axis{Log: true}, []float64{100, 9000}, []float64{100, 1000, 10000}},
		{Axis{Log: true}, []float64{1000}, []float64{1000, 10000}},
		{Axis{Log: true}, []float64{0.001, 0, -1}, []float64{0.001, 0.01}},
		{Axis{}, []float64{0, 100}, []float64{0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100}},
		{Axis{}, []float64{-1, 3}, []float64{-1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5, 3}},
		{Axis{}, []float64{7}, []float64{7, 7.1, 7.2, 7.3, 7.4, 7.5, 7.6, 7.7, 7.8, 7.9, 8}},
	} {
		got := c.axis.scale(slices.Clone(c.values)).ticks()
		near := func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }
		if !slices.EqualFunc(got, c.want, near) {
			t.Errorf("%v: %v, want %v", c.values, got, c.want)
		}
	}
}

func TestFormats(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.00001: "10 µs", 0.001: "1 ms", 0.0203: "20.3 ms", 1: "1 s", 10: "10 s"} {
		if got := Seconds(v); got != want {
			t.Errorf("Seconds(%v) = %q, want %q", v, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0", 100: "100", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000"} {
		if got := Count(v); got != want {
			t.Errorf("Count(%v) = %q, want %q", v, got, want)
		}
	}
}
