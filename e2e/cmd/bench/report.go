package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/bench/report"
	"github.com/fairlead/fairlead/e2e/lab"
)

// save writes the lines of a run to the file that --lines names.
func save(cmd *cobra.Command, lines *report.Lines) error {
	path, err := cmd.Flags().GetString("lines")
	if err != nil {
		return err
	}
	if path == "" {
		path = "bench-" + cmd.Name() + ".out"
	}
	var out bytes.Buffer
	if err := lines.Write(&out); err != nil {
		return err
	}
	if out.Len() == 0 {
		return nil // the run ended before it measured: an earlier one's lines stay
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s: lines for benchstat\n", path)
	return os.WriteFile(path, out.Bytes(), 0o644)
}

// document writes r into its section of docs/benchmarks.md of this checkout.
func document(r report.Report) error {
	root, err := lab.Checkout()
	if err != nil {
		return err
	}
	return report.WriteSection(filepath.Join(root, "docs", "benchmarks.md"), r.Name, r.Markdown(time.Now()))
}

// finish documents r if it is to, and fails if a target was missed.
func finish(r report.Report, write bool) error {
	if write {
		if err := document(r); err != nil {
			return err
		}
	}
	if missed := r.Missed(); missed != "" {
		return errors.New("missed:\n  " + missed)
	}
	return nil
}
