package demo

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// print shows the result as a table, and who announces each address.
func print(out io.Writer, r Result) {
	printRows(out, r.Rows)
	for _, a := range r.Announcers {
		if a.Node != "" {
			fmt.Fprintf(out, "%s is announced by %s: by %s the LAN client sees it at %s, which is %s of %s.\n", a.IP, a.Node, protocol(a.IP), a.MAC, a.Link, a.Node)
		}
	}
	fmt.Fprintln(out)
}

func printRows(out io.Writer, rows []Row) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nPATH\tTARGET\tREQUESTS\tFAILURES\tPODS\tP50 MS\tP99 MS")
	for _, row := range rows {
		p := row.Report
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d/%d\t%.2f\t%.2f\n",
			row.Path.Name, row.Path.Target, p.Requests, p.Failures, p.Distinct, Replicas, p.P50, p.P99)
	}
	_ = w.Flush()
	fmt.Fprintln(out)
}

func protocol(ip string) string {
	if family(ip) == "6" {
		return "NDP"
	}
	return "ARP"
}
