package storytest

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

func node(s *snapshot.Snapshot, name string, a *attrs) {
	s.Nodes = append(s.Nodes, &snapshot.Node{
		Name: name, Zone: a.text("zone"), Labels: a.labels("labels"), InternalIPs: a.addrs("ips"), PodCIDRs: a.prefixes("pods"),
		Ready: !a.flag("notready"), NetworkUnavail: a.flag("nonetwork"), Deleting: a.flag("deleting"),
	})
}

func agent(s *snapshot.Snapshot, name string, a *attrs) {
	st := &snapshot.NodeState{Electable: snapshot.Electable{Node: name, InSync: !a.flag("outofsync"), Draining: a.flag("draining")}}
	a.flag("dead")
	a.addrs("lacks")
	for i, text := range a.list("links") {
		l, prefixes, _ := strings.Cut(text, ":")
		st.Links = append(st.Links, snapshot.Link{Name: l, Index: i + 2, Prefixes: each(a, strings.Split(prefixes, "+"), netip.ParsePrefix)})
	}
	s.NodeStates = append(s.NodeStates, st)
}

func pool(s *snapshot.Snapshot, name string, a *attrs) {
	s.Pools = append(s.Pools, &snapshot.Pool{Name: name, Ranges: each(a, a.list("ranges"), ipRange), Labels: a.labels("labels")})
}

func address(s *snapshot.Snapshot, name string, a *attrs) {
	out := &snapshot.Address{Pool: a.text("pool"), Conflict: a.text("conflict"), Deleting: a.flag("deleting")}
	out.Addr = each(a, []string{name}, netip.ParseAddr)[0]
	out.Holders = each(a, a.list("holder"), func(text string) (snapshot.Holder, error) {
		name, uid, _ := strings.Cut(text, ":")
		r, err := ref(name)
		if uid == "" {
			uid = r.Name
		}
		return snapshot.Holder{Ref: r, UID: uid}, err
	})
	s.Addresses = append(s.Addresses, out)
}

func announcement(s *snapshot.Snapshot, name string, a *attrs) {
	out := &snapshot.Announcement{
		Name: name, PoolSelector: a.selector("pool"), ServiceSelector: a.selector("service"), NodeSelector: a.selector("node"),
		Interfaces: a.list("interfaces"), L2: !a.flag("bgp"),
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

func service(s *snapshot.Snapshot, name string, a *attrs) {
	r, err := ref(name)
	if err != nil {
		a.errs = append(a.errs, err)
	}
	out := &snapshot.Service{
		Ref: r, UID: a.text("uid"), Type: snapshot.ServiceType(a.text("type")), Labels: a.labels("labels"), Headless: a.flag("headless"),
		ClusterIPs: a.addrs("ip"), ExternalIPs: a.addrs("externalips"), SourceRanges: a.list("ranges"),
		ExternalTrafficPolicy: snapshot.Policy(a.text("external")), InternalTrafficPolicy: snapshot.Policy(a.text("internal")),
		Ports: each(a, a.list("ports"), port), Ingress: each(a, a.list("status"), ingress),
	}
	if out.UID == "" {
		out.UID = r.Name
	}
	if out.Type == "" {
		out.Type = snapshot.ClusterIP
	}
	if text := a.text("affinity"); text != "" {
		out.Affinity = each(a, []string{text}, time.ParseDuration)[0]
	}
	s.Services = append(s.Services, out)
}

// port reads [NAME:]PROTO/PORT[/NODEPORT].
func port(text string) (snapshot.Port, error) {
	name, rest, named := strings.Cut(text, ":")
	if !named {
		name, rest = "", text
	}
	parts := append(strings.Split(rest, "/"), "0", "0")
	proto, err := protocol(parts[0])
	if err != nil {
		return snapshot.Port{}, err
	}
	number, err := strconv.ParseUint(parts[1], 10, 16)
	if err != nil {
		return snapshot.Port{}, err
	}
	nodePort, err := strconv.ParseUint(parts[2], 10, 16)
	return snapshot.Port{Name: name, Protocol: proto, Port: uint16(number), NodePort: uint16(nodePort)}, err
}

// ingress reads ADDR or ADDR@Proxy; a word that is no address is a host name.
func ingress(text string) (snapshot.Ingress, error) {
	text, proxied := strings.CutSuffix(text, "@Proxy")
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return snapshot.Ingress{Hostname: text}, nil //nolint:nilerr // an ingress may have a host name alone
	}
	return snapshot.Ingress{IP: ip, Proxy: proxied}, nil
}

func endpoint(s *snapshot.Snapshot, name string, a *attrs) {
	r, err := ref(name)
	at := slices.IndexFunc(s.Services, func(svc *snapshot.Service) bool { return svc.Ref == r })
	if err != nil || at < 0 {
		a.errs = append(a.errs, fmt.Errorf("there is no Service %q", name))
		return
	}
	svc := s.Services[at]
	svc.Endpoints = append(svc.Endpoints, snapshot.Endpoint{
		PortName: a.text("port"), Protocol: each(a, []string{a.text("proto")}, protocol)[0],
		Addr: each(a, []string{a.text("addr")}, netip.ParseAddrPort)[0], Node: a.text("node"),
		ZoneHints: a.list("zones"), NodeHints: a.list("nodes"),
		Ready: !a.flag("unready"), Serving: !a.flag("unserving"), Terminating: a.flag("terminating"),
	})
}
