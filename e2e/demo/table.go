package demo

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// print shows the result as a table, and who announces the address.
func print(out io.Writer, r Result) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nPATH\tTARGET\tREQUESTS\tFAILURES\tPODS\tP50 MS\tP99 MS")
	for _, row := range r.Rows {
		p := row.Report
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d/%d\t%.2f\t%.2f\n",
			row.Path.Name, row.Path.Target, p.Requests, p.Failures, p.Distinct, Replicas, p.P50, p.P99)
	}
	w.Flush()
	if a := r.Announcer; a.Node != "" {
		fmt.Fprintf(out, "\n%s is announced by %s: the LAN client sees it at %s, which is %s of %s.\n\n", r.ExternalIP, a.Node, a.MAC, a.Link, a.Node)
	}
}
