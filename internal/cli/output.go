package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/fairlead/fairlead/internal/cli/doctor"
	"github.com/fairlead/fairlead/internal/cli/explain"
	"github.com/fairlead/fairlead/internal/plain"
)

// apiVersion is that of what -o json and the like print. It is not a kind of the
// API server.
const apiVersion = "cli.fairlead.io/v1alpha1"

// output is the flag -o: text for people if it is not given. It has no go-template:
// text/template calls methods by name, so that the linker could drop no exported
// method of any type, and the program would be half as large again.
type output struct {
	given string // the flag's value
	plain *genericclioptions.JSONYamlPrintFlags
	path  *genericclioptions.JSONPathPrintFlags
	names bool // name and wide are formats too
}

func (e *Env) outputFlag(cmd *cobra.Command, names bool) *output {
	o := &output{plain: genericclioptions.NewJSONYamlPrintFlags(), path: genericclioptions.NewJSONPathPrintFlags("", true), names: names}
	o.plain.AddFlags(cmd)
	o.path.AddFlags(cmd)
	cmd.Flags().StringVarP(&o.given, "output", "o", "", fmt.Sprintf("Output format. One of: (%s).", strings.Join(o.formats(), ", ")))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(o.formats(), cobra.ShellCompDirectiveNoFileComp))
	return o
}

// formats are the values that the flag takes.
func (o *output) formats() []string {
	formats := append(o.plain.AllowedFormats(), o.path.AllowedFormats()...)
	if o.names {
		return append([]string{"wide", "name"}, formats...)
	}
	return formats
}

// printer returns an error that lists the formats if there is none for the flag.
func (o *output) printer() (printers.ResourcePrinter, error) {
	p, err := o.plain.ToPrinter(o.given)
	if genericclioptions.IsNoCompatiblePrinterError(err) {
		p, err = o.path.ToPrinter(o.given)
	}
	if genericclioptions.IsNoCompatiblePrinterError(err) {
		return nil, genericclioptions.NoCompatiblePrinterError{OutputFormat: &o.given, AllowedFormats: o.formats()}
	}
	return p, err
}

func (o *output) wide() bool { return o.given == "wide" }

// print writes value, a kind of report, as the flag says: text for people.
func (o *output) print(w io.Writer, kind string, value any, findings []doctor.Finding, text func()) error {
	switch f := o.given; {
	case f == "", o.wide() && o.names:
		text()
		return nil
	case f == "name" && o.names:
		return printNames(w, findings)
	}
	printer, err := o.printer()
	if err != nil {
		return err
	}
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	obj := map[string]any{}
	if err := json.Unmarshal(data, &obj); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	obj["apiVersion"], obj["kind"] = apiVersion, kind
	return printer.PrintObj(&unstructured.Unstructured{Object: obj}, plain.Writer(w))
}

// printNames prints what the findings are about, each once, as kubectl takes it.
func printNames(w io.Writer, findings []doctor.Finding) error {
	told := map[string]bool{}
	for _, f := range findings {
		if name := f.Object.String(); name != "" && !told[name] {
			told[name] = true
			if _, err := fmt.Fprintln(w, plain.Text(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// screen is text for people.
type screen struct {
	io.Writer
	colour bool
}

func (e *Env) screen() screen { return screen{e.Out, e.Colour} }

// The colours of a terminal (ECMA-48).
const (
	red, green, yellow, bold, faint = "31", "32", "33", "1", "2"
)

// painted is text that is printed as it is: it has our escapes and no others.
type painted string

func (s screen) paint(how, text string) painted {
	text = plain.Text(text)
	if !s.colour {
		return painted(text)
	}
	return painted("\x1b[" + how + "m" + text + "\x1b[0m")
}

func (s screen) mark(m explain.Mark) painted {
	switch m {
	case explain.OK:
		return s.paint(green, "✔")
	case explain.Failed:
		return s.paint(red, "✖")
	}
	return s.paint(faint, "·")
}

func (s screen) good(ok bool) painted {
	if ok {
		return s.mark(explain.OK)
	}
	return s.mark(explain.Failed)
}

// line prints a line. All that people see goes through it, so this is where the text of
// others is made safe: what format has is ours, and what args have is not.
func (s screen) line(format string, args ...any) {
	safe := make([]any, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case painted, int:
			safe[i] = a
		default:
			safe[i] = plain.Text(fmt.Sprint(a))
		}
	}
	fmt.Fprintf(s, format+"\n", safe...)
}

// row is one line of a table; its mark has no part in the widths.
type row struct {
	mark  painted
	cells []string
}

// table prints rows below a head, columns two spaces apart.
func (s screen) table(head []string, rows []row) {
	for _, r := range rows {
		for i, c := range r.cells {
			r.cells[i] = plain.Text(c)
		}
	}
	widths := make([]int, len(head))
	for _, r := range append([]row{{cells: head}}, rows...) {
		for i, c := range r.cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	s.line("  %s", s.paint(faint, join(head, widths)))
	for _, r := range rows {
		s.line("%s %s", r.mark, join(r.cells, widths))
	}
}

func join(cells []string, widths []int) string {
	var b strings.Builder
	for i, c := range cells {
		b.WriteString(c)
		if i < len(cells)-1 {
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+2))
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// steps prints a trace.
func (s screen) steps(t *explain.Trace) {
	s.line("%s\n", s.paint(bold, t.Title))
	width := 0
	for _, st := range t.Steps {
		width = max(width, len(st.Name))
	}
	for _, st := range t.Steps {
		s.line("%s %-*s  %s", s.mark(st.Mark), width, st.Name, st.Text)
		inner := 0
		for _, d := range st.Details {
			inner = max(inner, len(d.Name))
		}
		for _, d := range st.Details {
			s.line("  %*s  %s %-*s  %s", width, "", s.mark(d.Mark), inner, d.Name, d.Text)
		}
	}
	s.line("\n%s\nNext: %s", s.paint(bold, t.Verdict), t.Next)
}

// findings prints what is wrong, and the next steps.
func (s screen) findings(fs []doctor.Finding) {
	for _, f := range fs {
		mark := s.paint(red, "✖")
		if f.Severity == doctor.Warning {
			mark = s.paint(yellow, "!")
		}
		s.line("%s %s  %s\n          Next: %s", mark, s.paint(bold, string(f.Code)), f.Message, f.Next)
	}
}
