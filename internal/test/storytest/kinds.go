package storytest

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
)

func node(s *snapshot.Snapshot, name string, a *attrs) {
	s.Nodes = append(s.Nodes, &snapshot.Node{
		Name: name, Zone: a.text("zone"), Labels: a.labels("labels"), InternalIPs: a.addrs("ips"), ExternalIPs: a.addrs("external"), PodCIDRs: a.prefixes("pods"),
		Ready: !a.flag("notready"), NetworkUnavail: a.flag("nonetwork"), Deleting: a.flag("deleting"), Unschedulable: a.flag("unschedulable"), Unheard: a.flag("unheard"),
		ShuttingDown: a.flag("shutsdown"), Taints: a.list("taints"),
	})
}

func agent(s *snapshot.Snapshot, name string, a *attrs) {
	st := &snapshot.NodeState{Electable: snapshot.Electable{Node: name, InSync: !a.flag("outofsync"), Draining: a.flag("draining"), Protocol: 2, Stays: a.addrs("stays")}}
	if a.flag("v01") {
		st.Protocol = 0
	}
	for _, cause := range a.list("drains") {
		st.DrainsFor |= snapshot.DrainCause(cause)
	}
	for _, family := range a.list("unforwarded") {
		st.Unforwarded = append(st.Unforwarded, map[string]snapshot.Family{"IPv4": snapshot.IPv4, "IPv6": snapshot.IPv6}[family])
	}
	a.flag("dead")
	a.addrs("lacks")
	for i, text := range a.list("links") {
		l, prefixes, _ := strings.Cut(text, ":")
		st.Links = append(st.Links, snapshot.Link{Name: l, Index: i + 2, Prefixes: each(a, strings.Split(prefixes, "+"), netip.ParsePrefix)})
	}
	st.Prefixes = each(a, a.list("sees"), sees)
	st.Leases = each(a, a.list("keeps"), keeps)
	for i := range st.Leases {
		st.Leases[i].Message = a.text("why")
	}
	if mac := a.text("mac"); mac != "" {
		st.Links = append(st.Links, snapshot.Link{Name: "eth0", MAC: mac})
	}
	if text := a.text("director"); text != "" {
		st.Director = director(text, len(s.NodeStates)+1, st.Links)
		st.Director.Reaches = a.list("reaches")
	}
	s.NodeStates = append(s.NodeStates, st)
}

// director reads "able", with all links, or why the node is not able. A link without a
// MAC gets one of the node's number.
func director(text string, node int, links []snapshot.Link) *snapshot.DirectorState {
	if text != "able" {
		return &snapshot.DirectorState{Why: text}
	}
	links = slices.Clone(links)
	var names []string
	for i := range links {
		links[i].MAC = cmp.Or(links[i].MAC, fmt.Sprintf("02:00:00:00:%02x:%02x", node, i))
		names = append(names, links[i].Name)
	}
	return &snapshot.DirectorState{Able: true, Links: snapshot.DirectorLinks(links, names)}
}

func namespace(s *snapshot.Snapshot, name string, a *attrs) {
	s.Namespaces = append(s.Namespaces, &snapshot.Namespace{Name: name, Labels: a.labels("labels")})
}

func pool(s *snapshot.Snapshot, name string, a *attrs) {
	p := &snapshot.Pool{
		Name: name, UID: "pool-" + name, Generation: int64(a.lines), Created: a.created(), Labels: a.labels("labels"),
		Ranges: each(a, a.list("ranges"), ipRange), Exclude: each(a, a.list("exclude"), ipRange), Bad: a.list("bad"), AutoAssign: a.text("auto") != "false",
		AvoidBuggyIPs: a.flag("avoidBuggyIPs"), Disabled: a.flag("disabled"), Priority: snapshot.NoPriority,
		Namespaces: a.list("namespaces"), NamespaceSelector: a.selector("nsselector"), ServiceSelector: a.selector("selector"),
	}
	if a.text("prefix") != "" {
		p = followsPrefix(p, a)
	}
	if a.text("dhcp") != "" {
		p = leases(p, a)
	}
	if p.Nodes = a.selector("nodes"); a.text("nodes") == "true" {
		p.Nodes = &snapshot.Selector{}
	}
	p.Reservations = each(a, a.list("reserve"), reservation)
	if a.text("max") != "" {
		p.MaxPerNamespace = a.number("max")
	}
	if a.text("priority") != "" {
		p.Priority = a.number("priority")
	}
	s.Pools = append(s.Pools, p)
}

// followsPrefix reads prefix=LINK/FROM-TO, scope=ula, and the prefixes that the pool
// knows: STATE:PREFIX.
func followsPrefix(p *snapshot.Pool, a *attrs) *snapshot.Pool {
	link, host, _ := strings.Cut(a.text("prefix"), "/")
	p.FromPrefix = &snapshot.FromPrefix{Interface: link, Host: each(a, []string{host}, ipRange)[0], UniqueLocal: a.text("scope") == "ula", Grace: snapshot.DefaultGrace}
	return p.WithPrefixes(each(a, a.list("knows"), func(text string) (snapshot.PoolPrefix, error) {
		state, prefix, _ := strings.Cut(text, ":")
		out, err := netip.ParsePrefix(prefix)
		k := snapshot.PoolPrefix{Prefix: out, State: snapshot.PrefixState(state), Since: beginning}
		if k.State == snapshot.PrefixLeaving {
			k.Until = beginning.AddDate(100, 0, 0)
		}
		return k, err
	}))
}

// leases reads dhcp=LINK, families=4,6, and the leases that the pool has:
// NS/NAME/FAMILY or NS/NAME/FAMILY/ADDRESS, with why=TEXT for all of them.
func leases(p *snapshot.Pool, a *attrs) *snapshot.Pool {
	p.FromDHCP = &snapshot.FromDHCP{Interface: a.text("dhcp"), Families: []snapshot.Family{snapshot.IPv4}}
	if families := a.list("families"); len(families) > 0 {
		p.FromDHCP.Families = each(a, families, family)
	}
	return p.WithLeases(each(a, a.list("leases"), func(text string) (snapshot.PoolLease, error) {
		part := append(strings.Split(text, "/"), "", "", "")
		f, err := family(part[2])
		l := snapshot.PoolLease{Ref: snapshot.Ref{Namespace: part[0], Name: part[1]}, Family: f, ID: part[0] + "." + part[1], Message: a.text("why")}
		if part[3] != "" && err == nil {
			l.Until = beginning.AddDate(100, 0, 0)
			l.Addr, err = netip.ParseAddr(part[3])
		}
		return l, err
	}))
}

// keeps reads POOL/NS/NAME/FAMILY or POOL/NS/NAME/FAMILY/ADDRESS.
func keeps(text string) (snapshot.NodeLease, error) {
	part := append(strings.Split(text, "/"), "", "", "", "")
	f, err := family(part[3])
	l := snapshot.NodeLease{Pool: part[0], ID: part[1] + "." + part[2], Family: f, At: beginning}
	if part[4] != "" && err == nil {
		l.Until, l.Server = beginning.AddDate(100, 0, 0), netip.MustParseAddr("192.0.2.1")
		l.Addr, err = netip.ParseAddr(part[4])
	}
	return l, err
}

// sees reads LINK:PREFIX, and LINK:PREFIX:old for one that the router lets go.
func sees(text string) (snapshot.LinkPrefix, error) {
	link, prefix, _ := strings.Cut(text, ":")
	prefix, old := strings.CutSuffix(prefix, ":old")
	p, err := netip.ParsePrefix(prefix)
	return snapshot.LinkPrefix{Link: link, Prefix: p, Deprecated: old}, err
}

// reservation reads NS/NAME=ADDRESS.
func reservation(text string) (snapshot.Reservation, error) {
	who, addr, _ := strings.Cut(text, "=")
	of, err := ref(who)
	if err != nil {
		return snapshot.Reservation{}, err
	}
	a, err := netip.ParseAddr(addr)
	return snapshot.Reservation{Addr: a, Ref: of}, err
}

func address(s *snapshot.Snapshot, name string, a *attrs) {
	out := &snapshot.Address{
		Addr: each(a, []string{name}, netip.ParseAddr)[0], Pool: a.text("pool"), Lease: a.text("lease"), Node: a.text("node"), ShareKey: a.text("key"), ShareGroup: a.text("backend"),
		Holders: each(a, a.list("holder"), holder), Conflict: a.text("conflict"), Deleting: a.flag("deleting"),
	}
	if a.text("created") != "" {
		out.Created = a.created()
	}
	if out.Pool == "" {
		out.Pool = poolOf(s, out.Addr)
	}
	if out.Node != "" {
		s.NodeAddresses = append(s.NodeAddresses, out)
		return
	}
	s.Addresses = append(s.Addresses, out)
}

// poolOf returns the name of the pool that contains addr, "gone" if none does.
func poolOf(s *snapshot.Snapshot, addr netip.Addr) string {
	for _, p := range s.Pools {
		if slices.ContainsFunc(p.Ranges, func(r netipx.IPRange) bool { return r.Contains(addr) }) {
			return p.Name
		}
	}
	return "gone"
}

// holder reads NS/NAME[:UID[:PORT+PORT[:POOL]]]; a PORT may be PROTO/FIRST-LAST.
func holder(text string) (snapshot.Holder, error) {
	name, rest, _ := strings.Cut(text, ":")
	uid, rest, _ := strings.Cut(rest, ":")
	ports, pool, _ := strings.Cut(rest, ":")
	r, err := ref(name)
	h := snapshot.Holder{Ref: r, UID: cmp.Or(uid, name), Pool: pool}
	for _, text := range strings.FieldsFunc(ports, func(r rune) bool { return r == '+' }) {
		if strings.Contains(text, "-") {
			r, wrong := portRange(text)
			h.Ranges, err = append(h.Ranges, r), errors.Join(err, wrong)
			continue
		}
		p, wrong := port(text)
		err = errors.Join(err, wrong)
		h.Ports = append(h.Ports, snapshot.HeldPort{Protocol: p.Protocol, Port: p.Port})
	}
	return h, err
}

// portRange reads PROTO/FIRST-LAST.
func portRange(text string) (r snapshot.PortRange, err error) {
	proto, ports, _ := strings.Cut(text, "/")
	if r.Protocol, err = protocol(proto); err == nil {
		_, err = fmt.Sscanf(ports, "%d-%d", &r.First, &r.Last)
	}
	return r, err
}

// holderText is the reverse of holder.
func holderText(h snapshot.Holder) string {
	var ports []string
	for _, p := range h.Ports {
		ports = append(ports, p.Protocol.String()+"/"+strconv.Itoa(int(p.Port)))
	}
	for _, r := range h.Ranges {
		ports = append(ports, fmt.Sprintf("%s/%d-%d", r.Protocol, r.First, r.Last))
	}
	text := h.Ref.String() + ":" + h.UID + ":" + strings.Join(ports, "+")
	if h.Pool != "" {
		text += ":" + h.Pool
	}
	return text
}

func announcement(s *snapshot.Snapshot, name string, a *attrs) {
	out := &snapshot.Announcement{
		Name: name, PoolSelector: a.selector("pool"), ServiceSelector: a.selector("service"), NodeSelector: a.selector("node"),
		Interfaces: a.list("interfaces"), L2: !a.flag("bgp"), Forwarding: snapshot.Forwarding(a.text("forwarding")), Refresh: a.span("refresh"),
		FailbackNever: a.text("failback") == "Never", Rebalance: a.text("rebalance"),
	}
	for _, cause := range a.list("drainon") {
		out.DrainOn |= snapshot.DrainCause(cause)
	}
	for _, text := range strings.FieldsFunc(a.text("prefer"), func(r rune) bool { return r == '+' }) {
		labels, weight, _ := strings.Cut(text, ":")
		k, v, _ := strings.Cut(labels, "=")
		out.PreferredNodes = append(out.PreferredNodes, snapshot.PreferredNodes{
			Selector: &snapshot.Selector{MatchLabels: map[string]string{k: v}}, Weight: each(a, []string{weight}, strconv.Atoi)[0],
		})
	}
	if a.flag("bgp") {
		out.BGP = wayOverBGP(a)
	}
	s.Announcements = append(s.Announcements, out)
}

func serviceCIDR(s *snapshot.Snapshot, name string, a *attrs) {
	s.ServiceCIDRs = append(s.ServiceCIDRs, &snapshot.ServiceCIDR{Name: name, Prefixes: a.prefixes("cidrs")})
}
