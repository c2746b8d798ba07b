package conformance

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Result is what became clear of one spec.
type Result struct {
	Spec  string // its full name without the labels
	State string // passed, failed or skipped, in ginkgo's words
	Why   string // of what has not passed
	Took  time.Duration
}

// Read reads the report that ginkgo writes as JSON. Specs that were not asked for are not
// in the result.
func Read(report []byte) ([]Result, error) {
	var suites []struct {
		SpecReports []struct {
			ContainerHierarchyTexts []string
			LeafNodeType            string
			LeafNodeText            string
			State                   string
			RunTime                 time.Duration
			Failure                 struct{ Message string }
		}
	}
	if err := json.Unmarshal(report, &suites); err != nil {
		return nil, fmt.Errorf("ginkgo's report: %w", err)
	}
	var list []Result
	for _, s := range suites {
		for _, r := range s.SpecReports {
			focused := r.State != "skipped" || r.Failure.Message != "" // without a message it was not asked for
			if r.LeafNodeType == "It" && focused || r.LeafNodeType != "It" && failed(r.State) {
				name := strings.TrimPrefix(strings.Join(append(r.ContainerHierarchyTexts, r.LeafNodeText), " "), "[sig-network] ")
				list = append(list, Result{Spec: strings.TrimSpace(name), State: r.State, Why: firstLines(r.Failure.Message), Took: r.RunTime})
			}
		}
	}
	slices.SortFunc(list, func(a, b Result) int { return strings.Compare(a.Spec, b.Spec) })
	return list, nil
}

// failed reports whether a state is one of those that fail a suite.
func failed(state string) bool {
	return !slices.Contains([]string{"passed", "skipped", "pending", ""}, state)
}

// firstLines are the lines of a message that say what was wrong, as one.
func firstLines(message string) string {
	lines := strings.FieldsFunc(message, func(r rune) bool { return r == '\n' })
	text := strings.Join(strings.Fields(strings.Join(lines[:min(len(lines), 3)], " ")), " ")
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "..."
	}
	return text
}

// Write prints a table of the results and returns those that failed without an exception.
func Write(out io.Writer, title string, results []Result, exceptions []Exception) (wrong []Result) {
	count := map[string]int{}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\tRESULT\tS\tWHY\n", title)
	for _, r := range results {
		state, why := r.State, r.Why
		if failed(r.State) {
			state = "FAILED"
			if known := exception(exceptions, r.Spec); known != "" {
				state, why = "cannot", known
			} else {
				wrong = append(wrong, r)
			}
		}
		count[state]++
		fmt.Fprintf(w, "%s\t%s\t%.0f\t%s\n", r.Spec, state, r.Took.Seconds(), why)
	}
	_ = w.Flush() // a terminal
	fmt.Fprintf(out, "%s: %d passed, %d failed, %d cannot pass, %d skipped themselves\n", title, count["passed"], count["FAILED"], count["cannot"], count["skipped"])
	return wrong
}
