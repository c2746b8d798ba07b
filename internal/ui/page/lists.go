package page

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/doctor"
	"github.com/fairlead/fairlead/internal/cli/explain"
	"github.com/fairlead/fairlead/internal/cli/status"
	"github.com/fairlead/fairlead/internal/plain"
	"github.com/fairlead/fairlead/internal/snapshot"
)

func clean(s string) string { return plain.Text(s) }

// Addresses lists every address that Services hold, those that nobody announces first.
func Addresses(s *cluster.State, query string, at int) Page {
	r := status.Of(s)
	since := sinces(s)
	vips := slices.DeleteFunc(slices.Clone(r.VIPs), func(v status.VIP) bool {
		return !strings.Contains(v.Address+" "+v.Pool+" "+strings.Join(v.Services, " ")+" "+strings.Join(v.Announcers, " "), query)
	})
	from, to, links := paged(len(vips), at, "/addresses", query)
	var rows []line
	for _, v := range vips[from:to] {
		var services []g.Node
		for _, svc := range v.Services[:min(3, len(v.Services))] {
			services = append(services, serviceNamed(svc))
		}
		if n := len(v.Services) - 3; n > 0 {
			services = append(services, g.Text(cluster.Count(n, "other")))
		}
		age := "-"
		if t := since[v.Address]; !t.IsZero() {
			age = cluster.Ago(s.Now, t)
		}
		rows = append(rows, row(g.Group{good(len(v.Announcers) > 0 && !accused(r, v)), link(toAddress(v.Address), v.Address)}, each(services), text(v.By(false)), g.Text(age), name(v.Pool)))
	}
	summary := fmt.Sprintf("%d addresses", len(vips))
	if len(vips) == 1 {
		summary = "1 address"
	}
	return Page{Title: "Addresses", Said: summary, Live: g.Group{
		h.H1(g.Text("Addresses")), gaps(s), refused(s),
		section("held", "Addresses that Services hold", links, table("Addresses", []string{"Address", "Services", "Announced by", "Since", "Pool"}, rows)),
	}}
}

// refused are the Services that get no address.
func refused(s *cluster.State) g.Node {
	var rows []line
	n := 0
	for _, o := range allocator.Decide(s.Snapshot, s.Allocation).Services {
		if o.Refusal == nil {
			continue
		}
		if n++; n > perPage {
			continue
		}
		rows = append(rows, row(g.Group{good(len(o.Addrs) > 0), link(toService(o.Ref), o.Ref.String())}, text(o.Refusal.String())))
	}
	if n == 0 {
		return nil
	}
	return section("refused", "Services that do not get what they ask for",
		table("Services that do not get what they ask for", []string{"Service", "Why"}, rows),
		g.If(n > perPage, h.P(g.Text(fmt.Sprintf("and %d more", n-perPage)))))
}

// Address shows one address: who holds it, who announces it, and who would.
func Address(s *cluster.State, addr netip.Addr) Page {
	i := slices.IndexFunc(s.Addresses, func(a *snapshot.Address) bool { return a.Addr == addr })
	if i < 0 {
		return NotFound("There is no record of the address " + addr.String() + ".")
	}
	a := s.Addresses[i]
	var holders []g.Node
	for _, hold := range a.Holders {
		holders = append(holders, again(toService(hold.Ref), hold.Ref.String()))
	}
	since := "-"
	if t := sinces(s)[addr.String()]; !t.IsZero() {
		since = cluster.Ago(s.Now, t)
	}
	var heirs []g.Node
	judged := announcer.Judge(s.Election(), addr)
	slices.SortStableFunc(judged, func(x, y announcer.Judged) int { return cmp.Compare(x.Rank, y.Rank) })
	for _, j := range judged {
		if j.Rank > 0 && len(heirs) < 10 {
			heirs = append(heirs, h.Li(again(toNode(j.Node), j.Node), g.If(j.Rank == 1, g.Text(" is elected"))))
		}
	}
	return Page{Title: addr.String(), Said: addr.String(), Live: g.Group{
		h.H1(name(addr.String())), gaps(s),
		facts(fact("Services", each(holders)), fact("Pool", again("/pools", a.Pool)), fact("Record made", g.Text(cluster.Ago(s.Now, s.Made(addr))+" ago")),
			fact("Announced since", g.Text(since)), g.If(a.Conflict != "", fact("Foreign host", g.Group{good(false), text(a.Conflict)}))),
		section("who", "Who announces it", steps(explain.Announcing(s, addr), true)),
		section("heirs", "Heirs in order", g.If(len(heirs) == 0, h.P(h.Class("none"), g.Text("None."))), g.If(len(heirs) > 0, h.Ol(heirs...))),
	}}
}

// Services lists the Services whose name or address has query in it.
func Services(s *cluster.State, query string, at int) Page {
	plan := map[snapshot.Ref]allocator.Outcome{}
	for _, o := range allocator.Decide(s.Snapshot, s.Allocation).Services {
		plan[o.Ref] = o
	}
	type match struct {
		svc   *snapshot.Service
		addrs string
	}
	var found []match
	for _, svc := range s.Services {
		var addrs []string
		for _, a := range plan[svc.Ref].Addrs {
			addrs = append(addrs, a.String())
		}
		l := match{svc, strings.Join(addrs, ", ")}
		external := svc.Type == snapshot.LoadBalancer
		if query == "" && external || query != "" && strings.Contains(svc.Ref.String()+" "+l.addrs, query) {
			found = append(found, l)
		}
	}
	accused := map[string]bool{}
	for _, f := range doctor.Cluster(s) {
		if f.Severity == doctor.Problem && f.Object.Resource == "service" {
			accused[f.Object.Namespace+"/"+f.Object.Name] = true
		}
	}
	from, to, links := paged(len(found), at, "/services", query)
	var rows []line
	for _, l := range found[from:to] {
		why, m := l.addrs, mark(explain.Note)
		if r := plan[l.svc.Ref].Refusal; r != nil {
			why, m = strings.TrimPrefix(l.addrs+" "+r.String(), " "), good(false)
		} else if l.addrs != "" {
			m = good(!accused[l.svc.Ref.String()])
		}
		rows = append(rows, row(g.Group{m, link(toService(l.svc.Ref), l.svc.Ref.String())}, g.Text(string(l.svc.Type)), text(why)))
	}
	title := "Services of type LoadBalancer"
	if query != "" {
		title = "Services found"
	}
	return Page{Title: "Services", Said: cluster.Count(len(found), "Service"), Live: g.Group{
		h.H1(g.Text("Services")), gaps(s), section("list", title, links, table("Services", []string{"Service", "Type", "Address"}, rows)),
	}}
}
