package kernels

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Report is what one guest said.
type Report struct {
	Kernel   string // Debian's version
	Release  string // what the kernel says of itself; empty if the guest did not end as it should
	Took     time.Duration
	Tests    []Test
	Packages map[string]string // how each test program ended: "ok", or why not
	Asked    []string          // the packages that were to run
	Left     []Exception       // what was left out
}

// Test is a test that ended. Of subtests only those that skipped themselves are kept.
type Test struct {
	Package, Name, Result string // Result is PASS, SKIP or FAIL
}

// NewReport is that of a guest which has not begun.
func NewReport(i Image, job Job) *Report {
	r := &Report{Kernel: i.Version, Packages: map[string]string{}, Left: job.Left}
	for _, run := range job.Runs {
		r.Asked = append(r.Asked, run.Package)
	}
	return r
}

var ended = regexp.MustCompile(`^(?:--- (PASS|FAIL|SKIP)| +--- (SKIP)): (\S+) \(`)

// Read reads what a guest prints until it ends. It calls heard for each line of the
// guest; failed reports whether the line says that a test or a program failed.
func (r *Report) Read(in io.Reader, heard func(line string, failed bool)) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	pkg := ""
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		failed := false
		if rest, ok := strings.CutPrefix(line, begin); ok {
			pkg = rest
		} else if rest, ok := strings.CutPrefix(line, end); ok {
			name, result, _ := strings.Cut(rest, " ")
			r.Packages[name] = result
			failed = result != "ok"
		} else if rest, ok := strings.CutPrefix(line, done); ok {
			r.Release = rest
		} else if m := ended.FindStringSubmatch(line); m != nil {
			r.Tests = append(r.Tests, Test{pkg, m[3], m[1] + m[2]})
			failed = m[1] == "FAIL"
		}
		heard(line, failed)
	}
	return lines.Err()
}

// with are the tests with a result, as PACKAGE.NAME.
func (r *Report) with(result string) []string {
	var names []string
	for _, t := range r.Tests {
		if t.Result == result {
			names = append(names, t.Package+"."+t.Name)
		}
	}
	return names
}

// faults are the reasons why the run does not count as passed: tests that failed or
// skipped themselves, programs that ended otherwise, and a guest that did not finish.
func (r *Report) faults() []string {
	var faults []string
	for _, name := range r.with("FAIL") {
		faults = append(faults, name+" failed")
	}
	for _, name := range r.with("SKIP") {
		if strings.Contains(name, ".TestLess") {
			continue // it is about what this guest has: see Less
		}
		faults = append(faults, name+" skipped itself: Exceptions has to name it, with the reason")
	}
	for _, pkg := range r.Asked {
		failed := slices.ContainsFunc(r.Tests, func(t Test) bool { return t.Package == pkg && t.Result == "FAIL" })
		if result := r.Packages[pkg]; result == "" {
			faults = append(faults, pkg+" did not end")
		} else if result != "ok" && !failed {
			faults = append(faults, pkg+": "+result)
		}
	}
	if r.Release == "" {
		faults = append(faults, "the guest did not end as it should")
	}
	return faults
}

// Err returns an error that names all faults, or nil without a fault.
func (r *Report) Err() error {
	faults := r.faults()
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("kernel %s:\n  %s", r.Kernel, strings.Join(faults, "\n  "))
}

// Table is a line for each kernel, and below it what was left out.
func Table(reports []*Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-12s %-28s %4s %7s %7s %7s %8s\n", "KERNEL", "RELEASE", "RUN", "PASSED", "SKIPPED", "FAILED", "TIME")
	for _, r := range reports {
		passed, skipped, failed := len(r.with("PASS")), len(r.with("SKIP")), len(r.with("FAIL"))
		fmt.Fprintf(&b, "%-12s %-28s %4d %7d %7d %7d %8s\n", r.Kernel, r.Release,
			passed+skipped+failed, passed, skipped, failed, r.Took.Round(time.Second))
	}
	for _, r := range reports {
		for _, e := range r.Left {
			fmt.Fprintf(&b, "left out on %s: %s\n", r.Kernel, e)
		}
	}
	return b.String()
}

// Screen shows of a guest's lines how each test and benchmark ended, and all lines
// that lead to a failure.
type Screen struct {
	Out     io.Writer
	Prefix  string // of each line: guests run at the same time
	All     bool   // show every line
	pending []string
}

var shown = regexp.MustCompile(`^(--- |Benchmark\S+\s+\d|` + begin + `)`)

// Heard takes the next line.
func (s *Screen) Heard(line string, failed bool) {
	switch {
	case s.All || shown.MatchString(line) && !failed:
		s.pending = nil
		fmt.Fprintln(s.Out, s.Prefix+line)
	case failed:
		s.pending = append(s.pending, line)
		s.Flush()
	default:
		s.pending = append(s.pending, line)
	}
}

// Flush shows the lines since the last one that was shown: a guest that ended too
// early says in them where it was.
func (s *Screen) Flush() {
	for _, line := range s.pending {
		fmt.Fprintln(s.Out, s.Prefix+line)
	}
	s.pending = nil
}
