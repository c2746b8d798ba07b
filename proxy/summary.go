package proxy

import (
	"maps"
	"net/netip"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Summary is what there is to say of a Table.
type Summary struct {
	VIPs      map[netip.Addr]bool // with a Frontend; not changed later
	Services  int                 // with a Frontend
	Endpoints int                 // of all ports of cluster IPs
	// Services with policy Local that have endpoints, but none on this node, so that
	// some connections are dropped here.
	NoLocalInternal, NoLocalExternal int
}

// Summarize returns the Summary of a Table.
func Summarize(t *Table) Summary {
	var c counts
	by := map[snapshot.Ref][]*Frontend{}
	for _, f := range t.Frontends {
		by[f.Service] = append(by[f.Service], f)
	}
	for _, fs := range by {
		c.add(fs, 1)
	}
	return c.summary()
}

// counts is a Summary that can be changed by one Service.
type counts struct {
	Summary
	frontends map[netip.Addr]int // of each VIP
}

// add counts the Frontends of one Service n times.
func (c *counts) add(fs []*Frontend, n int) {
	if len(fs) == 0 {
		return
	}
	c.Services += n
	internal, external := 0, 0
	for _, f := range fs {
		switch f.Kind {
		case VIP:
			c.vip(f.Addr, n)
		case ClusterIP:
			c.Endpoints += n * len(f.Cluster)
		}
		switch {
		case f.Empty != Drop:
		case f.Kind == ClusterIP:
			internal = n
		default:
			external = n
		}
	}
	c.NoLocalInternal += internal
	c.NoLocalExternal += external
}

func (c *counts) vip(addr netip.Addr, n int) {
	if c.frontends == nil {
		c.frontends = map[netip.Addr]int{}
	}
	was := c.frontends[addr]
	if c.frontends[addr] = was + n; was+n == 0 {
		delete(c.frontends, addr)
	}
	c.VIPs = c.cleared(was, was+n)
}

// cleared returns VIPs if a VIP neither came nor went. Otherwise it returns nil:
// VIPs is then made again when somebody asks, since nobody may see it change.
func (c *counts) cleared(was, now int) map[netip.Addr]bool {
	if (was == 0) != (now == 0) {
		return nil
	}
	return c.VIPs
}

func (c *counts) summary() Summary {
	if c.VIPs == nil {
		c.VIPs = make(map[netip.Addr]bool, len(c.frontends))
		for addr := range maps.Keys(c.frontends) {
			c.VIPs[addr] = true
		}
	}
	return c.Summary
}
