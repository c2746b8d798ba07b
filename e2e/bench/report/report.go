package report

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what is said of a run.
type Report struct {
	Name    string // "bench-proxy", also the section of the documentation
	How     string // what was done, and on what machine
	Table   Table
	Plot    string // lines below the table; "" for no plot
	Targets []Target
	Unmet   bool     // list only the targets that were not met: the table has the others
	Notes   []string // what else was seen
}

// Target is what fairlead has to reach.
type Target struct {
	What, Got string
	Verdict   Verdict
}

// Missed names the targets that were missed, joined for an error; "" if none was.
func (r Report) Missed() string {
	var out []string
	for _, t := range r.Targets {
		if t.Verdict == Missed {
			out = append(out, t.What+": "+t.Got)
		}
	}
	return strings.Join(out, "\n  ")
}

// Worst returns the verdict on targets that belong together.
func Worst(targets []Target) Verdict {
	out := Met
	for _, t := range targets {
		if t.Verdict == Missed || t.Verdict == Undecided && out == Met {
			out = t.Verdict
		}
	}
	return out
}

// Text is the report for a terminal.
func (r Report) Text() string {
	return fmt.Sprintf("%s: %s\n%s", r.Name, r.How, r.body(Table.text, ""))
}

// Markdown is the report for the documentation, with the day of the run.
func (r Report) Markdown(day time.Time) string {
	return fmt.Sprintf("%s: %s.\n\n%s", day.Format(time.DateOnly), r.How, r.body(Table.markdown, "- "))
}

// body writes the tables by one of their writers, and the notes behind a bullet.
func (r Report) body(write func(Table) string, bullet string) string {
	out := write(r.Table)
	if r.Plot != "" {
		out += "\n" + r.Plot
	}
	if len(r.Targets) > 0 {
		out += "\n" + r.counts() + "\n"
	}
	if t := r.verdicts(); len(t.Rows) > 0 {
		out += "\n" + write(t)
	}
	for i, note := range r.Notes {
		if i == 0 {
			out += "\n"
		}
		out += bullet + note + ".\n"
	}
	return out
}

// Indented indents lines by four columns, as Markdown has what is drawn.
func Indented(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n    ") + "\n"
}

func (r Report) counts() string {
	n := map[Verdict]int{}
	for _, t := range r.Targets {
		n[t.Verdict]++
	}
	return fmt.Sprintf("Targets: %d met, %d undecided, %d missed.", n[Met], n[Undecided], n[Missed])
}

func (r Report) verdicts() Table {
	out := Table{Columns: []string{"target", "measured", "verdict"}}
	for _, t := range r.Targets {
		if !r.Unmet || t.Verdict != Met {
			out.Rows = append(out.Rows, []string{t.What, t.Got, string(t.Verdict)})
		}
	}
	return out
}

// Table is rows of cells, all as long as Columns.
type Table struct {
	Columns []string
	Rows    [][]string
}

func (t Table) text() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{t.Columns}, t.Rows...) {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // a string takes all
	return out.String()
}

func (t Table) markdown() string {
	rule := make([]string, len(t.Columns))
	for i := range rule {
		rule[i] = "---"
	}
	var out strings.Builder
	for _, row := range append([][]string{t.Columns, rule}, t.Rows...) {
		fmt.Fprintf(&out, "| %s |\n", strings.Join(row, " | "))
	}
	return out.String()
}
