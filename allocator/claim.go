package allocator

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// claim is a Service of ours while one decision is made.
type claim struct {
	svc      *snapshot.Service
	ns       *snapshot.Namespace
	req      request
	broken   *snapshot.Refusal // the request cannot be followed: it keeps what it has and asks for nothing
	idle     bool              // it is to hold nothing: deleting, or without a cluster IP
	families []snapshot.Family // wanted, primary first
	prefer   bool              // one of families is enough
	key      string            // share key
	backend  string            // who may share: see backendOf
	ports    []snapshot.HeldPort

	before    []netip.Addr // by its records
	double    bool         // two of them are of one family
	held      []*slot
	adopted   bool // took an address from its status
	displaced bool // lost a shared address
	queued    bool // in the queue of those that may move
	refusal   *snapshot.Refusal
	warnings  []snapshot.Refusal

	sec, nsec, pos int64 // creation time, and place by name: the rank
	beforeBuf      [2]netip.Addr
	heldBuf        [2]*slot
}

// Ours tells whether svc is a Service that this allocator decides about: type
// LoadBalancer, not headless, and of our class or, with DefaultClass, of none.
func Ours(svc *snapshot.Service, opt Options) bool {
	if svc.Type != snapshot.LoadBalancer || svc.Headless {
		return false
	}
	if svc.Class == "" {
		return opt.DefaultClass
	}
	return svc.Class == opt.Class
}

// fill makes c the claim of svc, whose ports it notes in ports, a shared buffer.
func (c *claim) fill(svc *snapshot.Service, ns *snapshot.Namespace, ports *[]snapshot.HeldPort) {
	c.svc, c.ns = svc, ns
	c.sec, c.nsec = svc.Created.Unix(), int64(svc.Created.Nanosecond())
	switch {
	case svc.Deleting:
		c.idle = true
		return
	case len(svc.ClusterIPs) == 0:
		c.idle = true
		c.refusal = refuse(NoClusterIP, "the Service has no cluster IP yet")
		return
	}
	c.req, c.broken = parseRequest(svc)
	c.warnings = c.req.warnings
	c.key, c.backend, c.ports = c.req.key, backendOf(svc), portsOf(svc, ports)
	why := c.wantFamilies()
	if c.broken == nil {
		c.broken = why
	}
	if c.broken == nil {
		c.broken = c.fitFamilies()
	}
}

// wantFamilies reads spec.ipFamilyPolicy, spec.ipFamilies and spec.clusterIPs.
func (c *claim) wantFamilies() *snapshot.Refusal {
	primary := snapshot.FamilyOf(c.svc.ClusterIPs[0])
	if len(c.svc.Families) > 0 {
		primary = c.svc.Families[0]
	}
	c.families = only[primary]
	dual := len(c.svc.ClusterIPs) > 1
	switch {
	case c.svc.FamilyPolicy == snapshot.RequireDualStack && !dual:
		return refuse(WrongFamily, "ipFamilyPolicy is RequireDualStack, but the Service has one cluster IP: %s", c.svc.ClusterIPs[0])
	case c.svc.FamilyPolicy == snapshot.RequireDualStack, c.svc.FamilyPolicy == snapshot.PreferDualStack && dual:
		c.families = both[primary]
		c.prefer = c.svc.FamilyPolicy == snapshot.PreferDualStack
	}
	return nil
}

var (
	only = map[snapshot.Family][]snapshot.Family{snapshot.IPv4: {snapshot.IPv4}, snapshot.IPv6: {snapshot.IPv6}}
	both = map[snapshot.Family][]snapshot.Family{
		snapshot.IPv4: {snapshot.IPv4, snapshot.IPv6}, snapshot.IPv6: {snapshot.IPv6, snapshot.IPv4}}
)

// fitFamilies checks that the requested addresses are one of each family.
func (c *claim) fitFamilies() *snapshot.Refusal {
	if len(c.req.addrs) == 0 {
		return nil
	}
	if len(c.req.addrs) < len(c.families) {
		return refuse(WrongFamily, "a dual-stack Service needs one address of each family, and asks for %s alone", c.req.addrs[0])
	}
	if len(c.req.addrs) > len(c.families) {
		return refuse(WrongFamily, "the Service is %s only and asks for %s", c.families[0], join(c.req.addrs))
	}
	for _, a := range c.req.addrs {
		if !slices.Contains(c.families, snapshot.FamilyOf(a)) {
			return refuse(WrongFamily, "the Service is %s only and asks for %s", c.families[0], a)
		}
	}
	return nil
}

// backendOf says whose packets a Service may share an address with: with
// externalTrafficPolicy Cluster anybody's of that policy, with Local only those
// of the same pods, because a node attracts an address for all its holders.
func backendOf(svc *snapshot.Service) string {
	if svc.ExternalTrafficPolicy != snapshot.PolicyLocal {
		return ""
	}
	keys := make([]string, 0, len(svc.Selector))
	for k, v := range svc.Selector {
		keys = append(keys, k+"="+v)
	}
	slices.Sort(keys)
	return "local:" + strings.Join(keys, ",")
}

// portsOf returns the ports of svc, sorted, at the end of buf.
func portsOf(svc *snapshot.Service, buf *[]snapshot.HeldPort) []snapshot.HeldPort {
	start := len(*buf)
	for _, p := range svc.Ports {
		*buf = append(*buf, snapshot.HeldPort{Protocol: p.Protocol, Port: p.Port})
	}
	ports := (*buf)[start:len(*buf):len(*buf)]
	slices.SortFunc(ports, comparePorts)
	return slices.Compact(ports)
}

func comparePorts(a, b snapshot.HeldPort) int {
	return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
}

// compareClaims orders claims of one rank: creation time, then name.
func compareClaims(a, b *claim) int {
	return cmp.Or(cmp.Compare(a.sec, b.sec), cmp.Compare(a.nsec, b.nsec), cmp.Compare(a.pos, b.pos))
}

// consents tells whether c shares with Services of the namespace.
func (c *claim) consents(namespace string) bool {
	return c.svc.Namespace == namespace || slices.Contains(c.req.consent, namespace)
}

func (c *claim) wants(f snapshot.Family) bool { return slices.Contains(c.families, f) }

// heldOf returns the slot of family f that c holds, or nil.
func (c *claim) heldOf(f snapshot.Family) *slot {
	for _, s := range c.held {
		if snapshot.FamilyOf(s.addr) == f {
			return s
		}
	}
	return nil
}

func (c *claim) holds(addr netip.Addr) bool {
	return slices.ContainsFunc(c.held, func(s *slot) bool { return s.addr == addr })
}

// addrs returns what c holds, primary family first, at the end of buf.
func (c *claim) addrs(buf *[]netip.Addr) []netip.Addr {
	if len(c.held) == 0 {
		return nil
	}
	start := len(*buf)
	for _, s := range c.held {
		*buf = append(*buf, s.addr)
	}
	out := (*buf)[start:len(*buf):len(*buf)]
	if len(out) == 2 && len(c.families) > 0 && snapshot.FamilyOf(out[0]) != c.families[0] {
		out[0], out[1] = out[1], out[0]
	}
	return out
}

// heldIn returns what c holds in p.
func (c *claim) heldIn(p *pool) []netip.Addr {
	var out []netip.Addr
	for _, s := range c.held {
		if s.pool == p {
			out = append(out, s.addr)
		}
	}
	return out
}
