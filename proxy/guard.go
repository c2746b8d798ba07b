package proxy

// Guarded returns what a node holds that leaves forwarding to another proxy, where t
// is what it would hold otherwise: the ports of VIPs are left alone and all other
// ports of VIPs are refused. Pings are answered, and answers leave, as t says. No other
// proxy knows ranges of ports: they are refused as well.
func (t *Table) Guarded() *Table {
	out := &Table{NodePortAddrs: t.NodePortAddrs, Ways: t.Ways}
	for _, f := range t.Frontends {
		if f.Kind == VIP && !f.Ranged() {
			g := &Frontend{Key: f.Key, Service: f.Service, PortName: f.PortName}
			g.Kind = Guard
			out.Frontends = append(out.Frontends, g)
		}
	}
	return out
}

// Guards reports whether t is a guard: it has ports of VIPs, and translates nothing.
func (t *Table) Guards() bool {
	return len(t.Frontends) > 0 && t.Frontends[0].Kind == Guard // the last kind
}
