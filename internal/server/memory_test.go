package server

import (
	"math"
	"runtime/debug"
	"testing"
)

func TestLimitMemory(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	for _, tc := range []struct {
		name, limit, gomemlimit string
		want                    int64
		fails                   bool
	}{
		{"none", "", "", math.MaxInt64, false},
		{"of the container", "536870912", "", 322122540, false},
		{"Go's own counts", "536870912", "1GiB", math.MaxInt64, false},
		{"no number", "512Mi", "", math.MaxInt64, true},
		{"zero", "0", "", math.MaxInt64, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			debug.SetMemoryLimit(math.MaxInt64)
			t.Setenv("MEMORY_LIMIT", tc.limit)
			t.Setenv("GOMEMLIMIT", tc.gomemlimit)
			err := LimitMemory()
			if got := debug.SetMemoryLimit(-1); got != tc.want || (err != nil) != tc.fails {
				t.Errorf("the limit is %d, want %d; %v", got, tc.want, err)
			}
		})
	}
}
