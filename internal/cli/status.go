package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/internal/cli/doctor"
	"github.com/fairlead/fairlead/internal/cli/status"
)

func (e *Env) status() *cobra.Command {
	cmd := &cobra.Command{
		Use: "status", Args: cobra.NoArgs,
		Short: "Show on one screen who runs, what is announced and what is wrong",
		Long: `status shows the controllers and agents, how full the pools are, which node
announces which address, the BGP peers, and what is wrong, with a code for each
that docs/troubleshooting.md explains. With --namespace it shows the addresses of that
namespace's Services alone. It exits with 0 if nothing is wrong, 1 if something is,
and 2 if it could not look.`,
	}
	out := e.outputFlag(cmd, true)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, c, err := e.read(cmd.Context())
		if err != nil {
			return blind(err)
		}
		o.ReadWorkloads(cmd.Context(), c.Dynamic)
		r := status.Of(o.State()).In(e.asked())
		err = out.print(e.Out, "Status", r, r.Findings, func() { e.screen().status(r, out.wide()) })
		if err != nil {
			return blind(err)
		}
		return wrong(doctor.Bad(r.Findings))
	}
	return cmd
}

// status prints the whole report.
func (s screen) status(r status.Report, wide bool) {
	s.controllers(r, wide)
	s.agents(r, wide)
	s.pools(r, wide)
	s.vips(r, wide)
	if len(r.Peers) > 0 {
		s.line("\n%s", s.paint(bold, "BGP PEERS"))
		var rows []row
		for _, p := range r.Peers {
			rows = append(rows, row{s.good(p.Good), []string{p.Name, p.Address, fmt.Sprint(p.ASN), p.State}})
		}
		s.table([]string{"NAME", "ADDRESS", "ASN", "STATE"}, rows)
	}
	s.line("\n%s", s.paint(bold, "PROBLEMS"))
	s.fewFindings(r.Findings, wide)
	s.line("%s", doctor.Summary(r.Findings))
}

func (s screen) controllers(r status.Report, wide bool) {
	s.line("%s  in namespace %s", s.paint(bold, "CONTROLLER"), r.Namespace)
	text, mark := r.Controls()
	s.line("%s %s", s.mark(mark), text)
	var rows []row
	for _, p := range r.Pods {
		if p.Component == "controller" || wide {
			ready := "ready"
			if !p.Ready {
				ready = "not ready"
			}
			cells := []string{p.Name, ready, fmt.Sprint(p.Restarts), p.Node}
			if wide {
				cells = append(cells, p.Image)
			}
			rows = append(rows, row{s.good(p.Ready), cells})
		}
	}
	head := []string{"POD", "READY", "RESTARTS", "NODE"}
	if wide {
		head = append(head, "IMAGE")
	}
	if len(rows) > 0 {
		s.table(head, rows)
	}
}

func (s screen) agents(r status.Report, wide bool) {
	s.line("\n%s", s.paint(bold, "AGENTS"))
	directs := slices.ContainsFunc(r.Agents, func(a status.Agent) bool { return a.Forwarding != "" })
	var rows []row
	for _, a := range r.Agents {
		cells := []string{a.Node, a.Version, a.Engine, a.State(), a.RenewedAgo, fmt.Sprint(a.Announces), fmt.Sprint(a.Services)}
		if wide {
			cells = append(cells, fmt.Sprint(a.Endpoints), a.LocalPods)
		} else {
			cells = append(cells, a.LocalPodsShort)
		}
		switch {
		case directs && wide:
			cells = append(cells, a.ForwardingText())
		case directs:
			cells = append(cells, string(a.Forwarding))
		}
		rows = append(rows, row{s.good(a.Good()), cells})
	}
	head := []string{"NODE", "VERSION", "ENGINE", "STATE", "RENEWED", "ANNOUNCES", "SERVICES"}
	if wide {
		head = append(head, "ENDPOINTS")
	}
	head = append(head, "LOCAL PODS BY")
	if directs {
		head = append(head, "FORWARDING")
	}
	s.table(head, rows)
}

func (s screen) pools(r status.Report, wide bool) {
	s.line("\n%s", s.paint(bold, "POOLS"))
	var rows []row
	for _, p := range r.Pools {
		for i, u := range p.Use {
			cells := []string{p.Name, u.Family, bar(u), u.String(), p.Ready}
			if wide {
				cells = append(cells, strings.Join(p.Ranges, ", "))
			}
			if i > 0 {
				cells[0] = ""
			}
			rows = append(rows, row{s.good(p.Good), cells})
		}
		if len(p.Use) == 0 {
			rows = append(rows, row{s.good(p.Good), []string{p.Name, "", "", "no address", p.Ready}})
		}
	}
	if len(rows) == 0 {
		s.line("  none")
		return
	}
	head := []string{"NAME", "FAMILY", "", "ASSIGNED", "STATE"}
	if wide {
		head = append(head, "RANGES")
	}
	s.table(head, rows)
}

// barWidth is how many characters a full pool's bar has.
const barWidth = 20

// bar draws how full a pool is: one mark at least if any address is assigned.
func bar(u status.PoolUse) string {
	n := 0
	if u.Total > 0 && u.Assigned > 0 {
		n = min(barWidth, max(1, int(float64(u.Assigned)/float64(u.Total)*barWidth)))
	}
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", barWidth-n) + "]"
}

func (s screen) vips(r status.Report, wide bool) {
	s.line("\n%s", s.paint(bold, "ADDRESSES"))
	if len(r.VIPs) == 0 {
		s.line("  none")
		return
	}
	var rows []row
	shown := r.VIPs
	if len(shown) > mostVIPs && !wide {
		shown = shown[:mostVIPs]
	}
	for _, v := range shown {
		by := v.By(wide)
		cells := []string{v.Address, v.Held(wide), by}
		if wide {
			cells = []string{v.Address, v.Pool, v.Held(wide), by, v.MAC}
		}
		rows = append(rows, row{s.good(len(v.Announcers) > 0), cells})
	}
	head := []string{"ADDRESS", "SERVICES", "ANNOUNCED BY"}
	if wide {
		head = []string{"ADDRESS", "POOL", "SERVICES", "ANNOUNCED BY", "MAC"}
	}
	s.table(head, rows)
	if n := len(r.VIPs) - len(shown); n > 0 {
		s.line("  and %d more: -o wide shows all", n)
	}
}

// What one screen holds without -o wide: addresses, those that nobody announces
// first, and findings of one code.
const (
	mostVIPs   = 20
	mostOfCode = 5
)

// fewFindings prints the first findings of each code, and counts the rest.
func (s screen) fewFindings(all []doctor.Finding, wide bool) {
	if wide {
		s.findings(all)
		return
	}
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].Code == all[0].Code {
			n++
		}
		s.findings(all[:min(n, mostOfCode)])
		if n > mostOfCode {
			s.line("          and %d more of %s: fairlead doctor shows all", n-mostOfCode, all[0].Code)
		}
		all = all[n:]
	}
}
