package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/bench"
	"github.com/fairlead/fairlead/e2e/bench/plot"
	"github.com/fairlead/fairlead/e2e/lab"
)

// report is what a comparison says.
type report interface {
	Text() string
	Markdown() string
	Chart() plot.Chart
	Missed() string // the targets; "" if none was
}

// tell prints r, writes it into the documentation if it is to, and fails if a target
// was missed.
func tell(cmd *cobra.Command, r report, section, picture string, write bool) error {
	fmt.Fprint(cmd.OutOrStdout(), r.Text())
	if write {
		if err := document(section, r.Markdown(), picture, r.Chart()); err != nil {
			return err
		}
	}
	if missed := r.Missed(); missed != "" {
		return errors.New("missed:\n  " + missed)
	}
	return nil
}

// document writes a section of docs/benchmarks.md of this checkout, and the picture
// that it shows.
func document(section, markdown, picture string, chart plot.Chart) error {
	root, err := lab.Checkout()
	if err != nil {
		return err
	}
	docs := filepath.Join(root, "docs")
	if err := os.WriteFile(filepath.Join(docs, picture), chart.SVG(), 0o644); err != nil {
		return err
	}
	return bench.WriteSection(filepath.Join(docs, "benchmarks.md"), section, markdown)
}
