package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

// TestSave: the lines of a run are in a file named by the command, or by --lines. A
// run that measured nothing leaves an earlier one's.
func TestSave(t *testing.T) {
	t.Chdir(t.TempDir())
	run := func(lines *report.Lines, args ...string) {
		t.Helper()
		root := rootCommand()
		root.AddCommand(&cobra.Command{Use: "nothing", RunE: func(cmd *cobra.Command, _ []string) error { return save(cmd, lines) }})
		root.SetArgs(append([]string{"nothing"}, args...))
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
	}
	measured := &report.Lines{}
	measured.Add("Nothing", 1, report.Of(1, "sec"))
	other := filepath.Join(t.TempDir(), "other.out")
	run(measured)
	run(&report.Lines{})
	run(measured, "--lines="+other)
	for _, path := range []string{"bench-nothing.out", other} {
		got, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(got), "\nBenchmarkNothing-") {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}

// TestFinish: a missed target fails the run, an undecided one does not.
func TestFinish(t *testing.T) {
	r := report.Report{Targets: []report.Target{{What: "a", Got: "1", Verdict: report.Met}, {What: "b", Got: "2", Verdict: report.Undecided}}}
	if err := finish(r, false); err != nil {
		t.Error(err)
	}
	r.Targets = append(r.Targets, report.Target{What: "c", Got: "3", Verdict: report.Missed})
	if err := finish(r, false); err == nil || err.Error() != "missed:\n  c: 3" {
		t.Errorf("%v", err)
	}
}
