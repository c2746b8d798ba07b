package lab

import (
	"fmt"
	"math"
	"time"
)

// bytesPerSecond is how much Go source one CPU compiles in a second, as measured for
// the programs of a lab.
const bytesPerSecond = 160e3

// estimate predicts the end of a build from the bytes of source of the packages that
// have begun and of those that are left.
type estimate struct {
	left         map[string]int64 // bytes by import path
	packages     int
	total, begun int64 // bytes
	cpus         int
}

// newEstimate is the estimate for packages, given in bytes of source by import path.
func newEstimate(packages map[string]int64, cpus int) *estimate {
	e := &estimate{left: packages, packages: len(packages), cpus: cpus}
	for _, size := range packages {
		e.total += size
	}
	return e
}

// begin takes a line of go build -v, which is a package that begins to compile.
func (e *estimate) begin(line string) {
	e.begun += e.left[line]
	delete(e.left, line)
}

// remaining is the time that the build still takes, when elapsed has passed since it
// began. The expected speed has the weight of the first tenth of the build.
func (e *estimate) remaining(elapsed time.Duration) time.Duration {
	expected := float64(e.total) / bytesPerSecond / float64(e.cpus)
	perByte := (elapsed.Seconds() + expected/10) / (float64(e.begun) + float64(e.total)/10)
	return time.Duration(perByte * float64(e.total-e.begun) * float64(time.Second))
}

// String is the estimate before the build.
func (e *estimate) String() string {
	return fmt.Sprintf("%d packages to compile, %.0f MB of Go: about %s on %d CPUs that are idle",
		e.packages, math.Ceil(float64(e.total)/1e6), rough(e.remaining(0)), e.cpus)
}

// after describes the build when elapsed has passed.
func (e *estimate) after(elapsed time.Duration) string {
	if len(e.left) == 0 {
		return "all packages compiled, now linking"
	}
	return fmt.Sprintf("%d of %d packages, about %s left", e.packages-len(e.left), e.packages, rough(e.remaining(elapsed)))
}

// rough is a duration in words, in whole minutes from two on.
func rough(d time.Duration) string {
	if d < 2*time.Minute {
		return fmt.Sprintf("%.0f s", max(10, math.Round(d.Seconds()/10)*10))
	}
	return fmt.Sprintf("%.0f minutes", d.Minutes())
}
