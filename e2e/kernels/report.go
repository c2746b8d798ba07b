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
	Kernel   string // the series that was asked for
	Release  string // what the kernel says of itself; empty if the guest did not end as it should
	Took     time.Duration
	Tests    []Test
	Packages map[string]string // what became of each test program that ended: "ok", or why not
	Asked    []string          // the packages that were to run
}

// NewReport is that of a guest which has not begun.
func NewReport(k Kernel, job Job) *Report {
	r := &Report{Kernel: k.Series, Packages: map[string]string{}}
	for _, run := range job.Runs {
		r.Asked = append(r.Asked, run.Package)
	}
	return r
}

// Test is a test that ended.
type Test struct {
	Package, Name, Result string // Result is PASS, SKIP or FAIL
	Took                  time.Duration
}

var ended = regexp.MustCompile(`^--- (PASS|SKIP|FAIL): (\S+) \((\S+)s\)`)

// Read reads what a guest prints until it ends. It writes the test programs' own
// lines to out.
func (r *Report) Read(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	pkg := ""
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		switch word, rest, _ := strings.Cut(line, " "); word + " " {
		case begin:
			pkg = rest
		case end:
			name, result, _ := strings.Cut(rest, " ")
			r.Packages[name] = result
		case done:
			r.Release = rest
			continue
		}
		fmt.Fprintln(out, line)
		if m := ended.FindStringSubmatch(line); m != nil {
			took, _ := time.ParseDuration(m[3] + "s")
			r.Tests = append(r.Tests, Test{pkg, m[2], m[1], took})
		}
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

// Faults are the reasons why the run does not count as passed: tests that failed or
// skipped themselves, programs that ended otherwise, and a guest that did not finish.
func (r *Report) Faults() []string {
	var faults []string
	for _, name := range r.with("FAIL") {
		faults = append(faults, name+" failed")
	}
	for _, name := range r.with("SKIP") {
		faults = append(faults, name+" skipped itself: name it in exceptions, with the reason")
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

// Err is an error that names the faults; nil when there is none.
func (r *Report) Err() error {
	faults := r.Faults()
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("kernel %s:\n  %s", r.Kernel, strings.Join(faults, "\n  "))
}

// Table is a line for each kernel, and below it what there is to know of each.
func Table(reports []*Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s %-32s %6s %6s %6s %8s\n", "KERNEL", "RELEASE", "PASSED", "FAILED", "SKIPPED", "TIME")
	for _, r := range reports {
		fmt.Fprintf(&b, "%-8s %-32s %6d %6d %7d %8s\n", r.Kernel, r.Release,
			len(r.with("PASS")), len(r.with("FAIL")), len(r.with("SKIP")), r.Took.Round(time.Second))
	}
	return b.String()
}

// Slowest are the n tests that took longest, longest first.
func (r *Report) Slowest(n int) []Test {
	list := slices.Clone(r.Tests)
	slices.SortStableFunc(list, func(a, b Test) int { return int(b.Took - a.Took) })
	return list[:min(n, len(list))]
}
