package lab

import (
	"strings"
	"testing"
	"time"
)

func TestEstimate(t *testing.T) {
	const second = bytesPerSecond // of one CPU
	tests := []struct {
		name    string
		begun   []string
		elapsed time.Duration
		want    string
	}{
		{"before the build the measured speed counts", nil, 0, "0 of 3 packages, about 5 minutes left"},
		{"at the measured speed it stays true", []string{"a"}, 60 * time.Second, "1 of 3 packages, about 4 minutes left"},
		{"a slow machine is seen", []string{"a"}, 240 * time.Second, "1 of 3 packages, about 12 minutes left"},
		{"a fast machine is seen", []string{"a", "b"}, 60 * time.Second, "2 of 3 packages, about 50 s left"},
		{"other lines of the go command do not count", []string{"go: downloading a", "a"}, 60 * time.Second, "1 of 3 packages, about 4 minutes left"},
		{"linking comes last", []string{"a", "b", "c"}, 300 * time.Second, "all packages compiled, now linking"},
	}
	for _, test := range tests {
		e := newEstimate(map[string]int64{"a": 120 * second, "b": 240 * second, "c": 240 * second}, 2)
		for _, line := range test.begun {
			e.begin(line)
		}
		if got := e.after(test.elapsed); got != test.want {
			t.Errorf("%s: %q, not %q", test.name, got, test.want)
		}
	}
}

func TestEstimateBeforeTheBuild(t *testing.T) {
	e := newEstimate(map[string]int64{"a": 100e6, "b": 1}, 4)
	if got := e.String(); !strings.HasPrefix(got, "2 packages to compile, 101 MB of Go: about ") || !strings.HasSuffix(got, " on 4 CPUs that are idle") {
		t.Error(got)
	}
}
