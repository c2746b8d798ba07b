package page

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"go4.org/netipx"
	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/doctor"
	"github.com/fairlead/fairlead/internal/cli/explain"
	"github.com/fairlead/fairlead/internal/cli/status"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Pools shows each pool with a map of its addresses.
func Pools(s *cluster.State) Page {
	r := status.Of(s)
	held := map[netip.Addr]*snapshot.Address{}
	for _, a := range s.Addresses {
		held[a.Addr] = a
	}
	conditions := map[string]allocator.PoolOutcome{}
	for _, p := range allocator.Decide(s.Snapshot, s.Allocation).Pools {
		conditions[p.Name] = p
	}
	var rows []line
	var maps []g.Node
	for _, p := range r.Pools {
		var use []string
		for _, u := range p.Use {
			use = append(use, u.Family+": "+u.String())
		}
		c := conditions[p.Name]
		rows = append(rows, row(g.Group{good(p.Good), h.A(h.Href("#pool-"+url.PathEscape(p.Name)), name(p.Name))}, g.Group{condition(c.Ready), g.If(c.Prefix.Reason != "", g.Group{h.Br(), condition(c.Prefix)}), g.If(c.Leasing.Reason != "", g.Group{h.Br(), condition(c.Leasing)})}, condition(c.Conflicting), text(strings.Join(use, "; ")), text(strings.Join(p.Ranges, ", "))))
		maps = append(maps, h.Section(h.Aria("labelledby", "pool-"+p.Name), h.H3(h.ID("pool-"+p.Name), name(p.Name)), poolMap(s.Pool(p.Name), held)))
	}
	var wrong []g.Node
	for _, f := range doctor.Cluster(s) {
		if f.Object.Resource == "addresspool.fairlead.io" {
			wrong = append(wrong, finding(f))
		}
	}
	return Page{Title: "Pools", Said: cluster.Count(len(r.Pools), "pool"), Live: g.Group{
		h.H1(g.Text("Pools")), gaps(s),
		section("list", "All pools", table("Pools", []string{"Pool", "State", "Conflicts", "Assigned", "Ranges"}, rows)),
		g.If(len(wrong) > 0, section("wrong", "What is wrong", h.Ul(append(wrong, h.Class("findings"))...))),
		g.If(len(maps) > 0, section("maps", "Use", append([]g.Node{legend()}, maps...)...)),
	}}
}

func condition(c snapshot.Condition) g.Node { return text(c.Reason + ": " + c.Message) }

func legend() g.Node {
	return h.P(h.Class("legend"), cell("free", ""), g.Text(" free "), cell("held", ""), g.Text(" held "), cell("conflict", ""), g.Text(" a foreign host answers"))
}

// mostCells is how many cells a map has: one for each address of a small pool, for
// several of a large one.
const mostCells = 512

// poolMap draws the addresses of a pool in order.
func poolMap(p *snapshot.Pool, held map[netip.Addr]*snapshot.Address) g.Node {
	if p == nil {
		return nil
	}
	total, small := 0, true
	for _, r := range p.Ranges {
		n, ok := size(r, mostCells)
		total, small = total+n, small && ok
	}
	if !small || total > mostCells {
		return holdersOf(p, held)
	}
	var out []g.Node
	for _, r := range p.Ranges {
		for a := r.From(); a.Compare(r.To()) <= 0 && a.IsValid(); a = a.Next() {
			out = append(out, h.Li(cellOf(a, held[a])))
		}
	}
	return h.Ul(append(out, h.Class("cells"), h.Aria("label", "Addresses of "+clean(p.Name)))...)
}

// size counts the addresses of r. ok is false if there are more than most.
func size(r netipx.IPRange, most int) (n int, ok bool) {
	for a := r.From(); n <= most; a = a.Next() {
		n++
		if a == r.To() {
			return n, true
		}
	}
	return n, false
}

func cellOf(a netip.Addr, by *snapshot.Address) g.Node {
	switch {
	case by == nil:
		return cell("free", a.String()+": free")
	case by.Conflict != "":
		return h.A(h.Href(toAddress(a.String())), cell("conflict", a.String()+": a foreign host answers"))
	}
	return h.A(h.Href(toAddress(a.String())), cell("held", a.String()+": "+holder(by)))
}

func holder(a *snapshot.Address) string {
	if len(a.Holders) == 0 {
		return "nobody"
	}
	out := a.Holders[0].Ref.String()
	if n := len(a.Holders) - 1; n > 0 {
		out += " and " + cluster.Count(n, "other")
	}
	return out
}

func cell(class, title string) g.Node {
	return h.Span(h.Class("cell "+class), g.If(title != "", h.Title(clean(title))), g.If(title != "", h.Span(h.Class("unseen"), text(title))))
}

// holdersOf stands for the map of a pool that is too large for one.
func holdersOf(p *snapshot.Pool, held map[netip.Addr]*snapshot.Address) g.Node {
	n := 0
	for a := range held {
		if slices.ContainsFunc(p.Ranges, func(r netipx.IPRange) bool { return r.Contains(a) }) {
			n++
		}
	}
	return h.P(mark(explain.Note), g.Text(fmt.Sprintf("The pool has more than %d addresses: ", mostCells)),
		h.A(h.Href("/addresses?q="+url.QueryEscape(p.Name)), g.Text(fmt.Sprintf("the %d that are held", n))))
}
