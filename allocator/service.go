package allocator

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// service is a Service of ours while one decision is made.
type service struct {
	*snapshot.Service
	ns       *snapshot.Namespace
	req      request
	broken   *snapshot.Refusal // the request cannot be followed: it keeps what it has and asks for nothing
	idle     bool              // it is to hold nothing: deleting, or without a cluster IP
	families []snapshot.Family // wanted, primary first
	prefer   bool              // one of families is enough
	key      string            // share key
	group    string            // who may share: see shareGroupOf
	ports    []snapshot.HeldPort
	ranges   []snapshot.PortRange // that it is to have where it shares no address

	before    []netip.Addr // by its records
	double    bool         // two of them are of one family
	held      []*slot
	adopted   bool          // took an address from its status
	leaving   []leavingAddr // of former prefixes, which it keeps for a while yet
	left      []netip.Addr  // of former prefixes, which it loses
	wishes    []*pool       // in which it waits for a lease
	displaced bool          // lost a shared address
	queued    bool          // in the queue of those that may move
	refusal   *snapshot.Refusal
	warnings  []snapshot.Refusal

	nodePool    *pool             // whose nodes' addresses it has; nil: none
	nodeSlots   []*nodeSlot       // these addresses, in the order of its status
	nodesBefore []netip.Addr      // those of nodes, by its records
	poolBefore  string            // of nodesBefore
	notOfNodes  *snapshot.Refusal // why it does not get the nodes that it asks for, while it holds an address of a range

	sec, nsec, pos int64 // creation time, and place by name: the rank
	beforeBuf      [2]netip.Addr
	heldBuf        [2]*slot
}

// Ours reports whether svc is a Service that this allocator decides about: type
// LoadBalancer, not headless, and of our class or, with DefaultClass, of none.
func Ours(svc *snapshot.Service, opt Options) bool {
	if svc.Type != snapshot.LoadBalancer || svc.Headless {
		return false
	}
	// Without --default-class such a Service is another load balancer's.
	if svc.Class == "" {
		return opt.DefaultClass
	}
	return svc.Class == opt.Class
}

// fill makes svc the state of obj, whose ports it notes in ports, a shared buffer.
func (svc *service) fill(obj *snapshot.Service, ns *snapshot.Namespace, ports *[]snapshot.HeldPort) {
	svc.Service, svc.ns = obj, ns
	svc.sec, svc.nsec = obj.Created.Unix(), int64(obj.Created.Nanosecond())
	switch {
	case obj.Deleting:
		svc.idle = true
		return
	// Its families are not known yet: they follow from its cluster IPs.
	case len(obj.ClusterIPs) == 0:
		svc.idle = true
		svc.refusal = refuse(NoClusterIP, "the Service has no cluster IP yet")
		return
	}
	svc.req, svc.broken = parseRequest(obj)
	svc.warnings = svc.req.warnings
	svc.key, svc.group, svc.ports, svc.ranges = svc.req.key, shareGroupOf(obj), portsOf(obj, ports), svc.req.ranges
	why := svc.wantFamilies()
	if svc.broken == nil {
		svc.broken = why
	}
	if svc.broken == nil {
		svc.broken = svc.fitFamilies()
	}
	// The Address kind refuses more: without this, the write of the record would fail
	// for ever, and the owner would not learn why.
	if len(svc.ports) > portsMax {
		svc.broken = refuse(TooLarge, "the Service has %d ports, and an address is given for at most %d", len(svc.ports), portsMax)
	}
}

// wantFamilies reads spec.ipFamilyPolicy, spec.ipFamilies and spec.clusterIPs.
func (svc *service) wantFamilies() *snapshot.Refusal {
	primary := snapshot.FamilyOf(svc.ClusterIPs[0])
	if len(svc.Families) > 0 {
		primary = svc.Families[0]
	}
	svc.families = only[primary]
	dual := len(svc.ClusterIPs) > 1
	switch {
	case svc.FamilyPolicy == snapshot.RequireDualStack && !dual:
		return refuse(WrongFamily, "ipFamilyPolicy is RequireDualStack, but the Service has one cluster IP: %s", svc.ClusterIPs[0])
	case svc.FamilyPolicy == snapshot.RequireDualStack, svc.FamilyPolicy == snapshot.PreferDualStack && dual:
		svc.families = both[primary]
		svc.prefer = svc.FamilyPolicy == snapshot.PreferDualStack
	}
	return nil
}

var (
	only = map[snapshot.Family][]snapshot.Family{snapshot.IPv4: {snapshot.IPv4}, snapshot.IPv6: {snapshot.IPv6}}
	both = map[snapshot.Family][]snapshot.Family{
		snapshot.IPv4: {snapshot.IPv4, snapshot.IPv6}, snapshot.IPv6: {snapshot.IPv6, snapshot.IPv4}}
)

// fitFamilies checks that the requested addresses are at least one of each family.
func (svc *service) fitFamilies() *snapshot.Refusal {
	if len(svc.req.addrs) == 0 {
		return nil
	}
	for _, a := range svc.req.addrs {
		if !svc.wants(snapshot.FamilyOf(a)) {
			return refuse(WrongFamily, "the Service is %s only and asks for %s", svc.families[0], join(svc.req.addrs))
		}
	}
	if familiesOf(svc.req.addrs) < len(svc.families) {
		return refuse(WrongFamily, "a dual-stack Service needs one address of each family, and asks for %s alone", join(svc.req.addrs))
	}
	return nil
}

// portsMax is how many ports of one holder, and groupMax how many bytes of what
// holders have in common, the Address kind can store.
const portsMax, groupMax = 4096, 16384

// shareGroupOf says whose packets a Service may share an address with whatever endpoints
// it has: with externalTrafficPolicy Cluster anybody's of that policy, with Local those of
// the same pods. See together for others.
func shareGroupOf(svc *snapshot.Service) string {
	if svc.ExternalTrafficPolicy != snapshot.PolicyLocal {
		return ""
	}
	keys := make([]string, 0, len(svc.Selector))
	for k, v := range svc.Selector {
		keys = append(keys, k+"="+v)
	}
	slices.Sort(keys)
	group := "local:" + strings.Join(keys, ",")
	if len(group) > groupMax {
		return fmt.Sprintf("local:sha256:%x", sha256.Sum256([]byte(group)))
	}
	return group
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

// compareServices orders Services of one rank: creation time, then name.
func compareServices(a, b *service) int {
	return cmp.Or(cmp.Compare(a.sec, b.sec), cmp.Compare(a.nsec, b.nsec), cmp.Compare(a.pos, b.pos))
}

// consents reports whether svc shares with Services of the namespace.
func (svc *service) consents(namespace string) bool {
	return svc.Namespace == namespace || slices.Contains(svc.req.consent, namespace)
}

func (svc *service) wants(f snapshot.Family) bool { return slices.Contains(svc.families, f) }

// heldOf returns the first slot of family f that svc holds, or nil.
func (svc *service) heldOf(f snapshot.Family) *slot {
	return svc.heldWhere(f, func(*pool) bool { return true })
}

// heldWhere is heldOf among the slots whose pool, which may be nil, is one of in.
func (svc *service) heldWhere(f snapshot.Family, in func(*pool) bool) *slot {
	for _, s := range svc.held {
		if snapshot.FamilyOf(s.addr) == f && in(s.pool) {
			return s
		}
	}
	return nil
}

func (svc *service) holds(addr netip.Addr) bool {
	return slices.ContainsFunc(svc.held, func(s *slot) bool { return s.addr == addr })
}

// addrs returns what svc holds, primary family first, at the end of buf.
func (svc *service) addrs(buf *[]netip.Addr) []netip.Addr {
	if len(svc.held) == 0 {
		return nil
	}
	start := len(*buf)
	for _, s := range svc.held {
		*buf = append(*buf, s.addr)
	}
	out := (*buf)[start:len(*buf):len(*buf)]
	slices.SortFunc(out, func(a, b netip.Addr) int {
		return cmp.Or(cmp.Compare(svc.rankOf(a), svc.rankOf(b)), a.Compare(b))
	})
	return out
}

// rankOf is the place of a's family in the status: the primary one is first.
func (svc *service) rankOf(a netip.Addr) int {
	return index(len(svc.families) > 0 && snapshot.FamilyOf(a) != svc.families[0])
}

// heldIn returns what svc holds in p.
func (svc *service) heldIn(p *pool) []netip.Addr {
	var out []netip.Addr
	for _, s := range svc.held {
		if s.pool == p {
			out = append(out, s.addr)
		}
	}
	return out
}
