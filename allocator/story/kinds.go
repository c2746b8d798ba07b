package story

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/snapshot"
)

func (w *World) pool(args []string) error {
	if len(args) == 0 {
		return errors.New("needs a name")
	}
	p := &snapshot.Pool{Name: args[0], UID: "pool-" + args[0], Generation: 1, Created: w.clock, Priority: snapshot.NoPriority}
	if old := w.pools[p.Name]; old != nil {
		p.Created, p.Generation = old.Created, old.Generation+1
	}
	args = args[1:]
	var err error
	if len(args) > 0 && strings.ContainsAny(args[0], ".:") && !strings.Contains(args[0], "=") {
		if p.Ranges, err = ranges(args[0]); err != nil {
			return err
		}
		args = args[1:]
	}
	f := fieldsOf(args)
	p.AutoAssign = f["auto"] != "false"
	p.AvoidBuggyIPs, p.Disabled = f["avoidBuggyIPs"] != "", f["disabled"] != ""
	p.Namespaces = list(f["namespaces"])
	p.NamespaceSelector, p.ServiceSelector = selector(f, "nsselector"), selector(f, "selector")
	p.Bad = list(f["bad"])
	if f["priority"] != "" {
		if p.Priority, err = strconv.Atoi(f["priority"]); err != nil {
			return err
		}
	}
	if err := w.created(f, &p.Created); err != nil {
		return err
	}
	w.pools[p.Name] = p
	return nil
}

// created reads created=N: seconds after the beginning.
func (w *World) created(f fields, t *time.Time) error {
	if f["created"] == "" {
		return nil
	}
	n, err := strconv.Atoi(f["created"])
	*t = time.Date(2026, 1, 1, 0, 0, n, 0, time.UTC)
	return err
}

func ref(text string) (snapshot.Ref, error) {
	ns, name, ok := strings.Cut(text, "/")
	if !ok {
		return snapshot.Ref{}, fmt.Errorf("%q is not NAMESPACE/NAME", text)
	}
	return snapshot.Ref{Namespace: ns, Name: name}, nil
}

func (w *World) service(args []string) error {
	if len(args) == 0 {
		return errors.New("needs a name")
	}
	r, err := ref(args[0])
	if err != nil {
		return err
	}
	f := fieldsOf(args[1:])
	all := w.attrs[r]
	if all == nil {
		all = fields{}
		w.attrs[r] = all
	}
	maps.Copy(all, f)
	svc := &snapshot.Service{Ref: r, Created: w.clock}
	if old := w.services[r]; old != nil {
		svc.UID, svc.Created, svc.Ingress = old.UID, old.Created, old.Ingress
	} else {
		w.uids++
		svc.UID = "uid-" + strconv.Itoa(w.uids)
	}
	if err := fill(svc, all); err != nil {
		return err
	}
	if err := w.created(f, &svc.Created); err != nil {
		return err
	}
	if text, ok := f["status"]; ok {
		svc.Ingress = ingress(text)
	}
	w.services[r] = svc
	return w.held(svc, f["held"], all)
}

// fill sets what the attributes of a Service say:
//
//	type=T class=C deleting headless local policy=Single|Prefer|Require families=4,6 clusterIPs=A,B noClusterIP
//	ports=tcp/80,udp/53 labels=K=V selector=K=V
//	addresses=A,B pool=P key=K share=NS,NS loadBalancerIP=A note:ANNOTATION=TEXT
//	status=A,HOST held=A,B created=N
func fill(svc *snapshot.Service, f fields) error {
	svc.Type = snapshot.LoadBalancer
	if f["type"] != "" {
		svc.Type = snapshot.ServiceType(f["type"])
	}
	svc.Class, svc.LoadBalancerIP = f["class"], f["loadBalancerIP"]
	svc.Deleting, svc.Headless = f["deleting"] != "", f["headless"] != ""
	if f["local"] != "" {
		svc.ExternalTrafficPolicy = snapshot.PolicyLocal
	}
	svc.Labels, svc.Selector = labels(f["labels"]), labels(f["selector"])
	svc.Annotations = annotations(f)
	if err := fillFamilies(svc, f); err != nil {
		return err
	}
	ports := f["ports"]
	if ports == "" {
		ports = "tcp/80"
	}
	for _, p := range list(ports) {
		proto, number, _ := strings.Cut(p, "/")
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return err
		}
		svc.Ports = append(svc.Ports, snapshot.Port{Name: p, Port: uint16(n),
			Protocol: map[string]snapshot.Protocol{"tcp": snapshot.TCP, "udp": snapshot.UDP, "sctp": snapshot.SCTP}[proto]})
	}
	return nil
}

func annotations(f fields) map[string]string {
	out := map[string]string{}
	for name, key := range map[string]string{"addresses": allocator.AnnotationAddresses, "pool": allocator.AnnotationPool,
		"key": allocator.AnnotationShareKey, "share": allocator.AnnotationShareNamespaces} {
		if v, ok := f[name]; ok {
			out[key] = v
		}
	}
	for name, v := range f {
		if key, ok := strings.CutPrefix(name, "note:"); ok {
			out[key] = v
		}
	}
	return out
}

// fillFamilies sets families and cluster IPs: IPv4 alone if nothing is said,
// both for a dual-stack policy.
func fillFamilies(svc *snapshot.Service, f fields) error {
	text := f["families"]
	svc.FamilyPolicy = snapshot.SingleStack
	switch f["policy"] {
	case "Prefer":
		svc.FamilyPolicy = snapshot.PreferDualStack
	case "Require":
		svc.FamilyPolicy = snapshot.RequireDualStack
	}
	if text == "" && svc.FamilyPolicy == snapshot.SingleStack {
		text = "4"
	} else if text == "" {
		text = "4,6"
	}
	for _, n := range list(text) {
		family, ip := snapshot.IPv4, "10.96.0.10"
		if n == "6" {
			family, ip = snapshot.IPv6, "fd00::10"
		}
		svc.Families = append(svc.Families, family)
		svc.ClusterIPs = append(svc.ClusterIPs, netip.MustParseAddr(ip))
	}
	if f["noClusterIP"] != "" {
		svc.ClusterIPs = nil
	}
	if f["clusterIPs"] != "" {
		var err error
		svc.ClusterIPs, err = addrs(f["clusterIPs"])
		return err
	}
	return nil
}

func ingress(text string) []snapshot.Ingress {
	var out []snapshot.Ingress
	for _, t := range list(text) {
		if a, err := netip.ParseAddr(t); err == nil {
			out = append(out, snapshot.Ingress{IP: a})
		} else {
			out = append(out, snapshot.Ingress{Hostname: t})
		}
	}
	return out
}

// held makes svc a holder of each address, with the record and the status.
func (w *World) held(svc *snapshot.Service, text string, f fields) error {
	got, err := addrs(text)
	if err != nil {
		return err
	}
	for _, a := range got {
		rec := w.addresses[a]
		if rec == nil {
			rec = &snapshot.Address{Addr: a, Pool: w.poolOf(a), ShareKey: f["key"]}
			if rec.ShareKey != "" && svc.ExternalTrafficPolicy == snapshot.PolicyLocal {
				rec.Backend = "local:" + f["selector"]
			}
			w.addresses[a] = rec
		}
		h := snapshot.Holder{Ref: svc.Ref, UID: svc.UID}
		for _, p := range svc.Ports {
			h.Ports = append(h.Ports, snapshot.HeldPort{Protocol: p.Protocol, Port: p.Port})
		}
		rec.Holders = append(rec.Holders, h)
		svc.Ingress = append(svc.Ingress, snapshot.Ingress{IP: a})
	}
	return nil
}

func (w *World) poolOf(a netip.Addr) string {
	for _, p := range w.pools {
		for _, r := range p.Ranges {
			if r.Contains(a) {
				return p.Name
			}
		}
	}
	return "gone"
}

func (w *World) recreate(args []string) error {
	r, err := ref(args[0])
	if err != nil {
		return err
	}
	delete(w.services, r)
	return w.service(args)
}

func (w *World) remove(args []string) error {
	if len(args) != 2 {
		return errors.New("needs a kind and a name")
	}
	name := args[1]
	switch args[0] {
	case "service":
		r, err := ref(name)
		if err != nil || w.services[r] == nil {
			return fmt.Errorf("no such Service: %w", err)
		}
		delete(w.services, r)
		delete(w.attrs, r)
	case "pool":
		delete(w.pools, name)
	case "address":
		delete(w.addresses, netip.MustParseAddr(name))
	case "node":
		delete(w.nodes, name)
	case "ns":
		delete(w.spaces, name)
	case "servicecidr":
		delete(w.cidrs, name)
	default:
		return fmt.Errorf("no kind %q", args[0])
	}
	return nil
}

func (w *World) address(args []string) error {
	a, err := netip.ParseAddr(args[0])
	if err != nil {
		return err
	}
	rec := &snapshot.Address{Addr: a, Pool: w.poolOf(a)}
	for _, arg := range args[1:] {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "pool":
			rec.Pool = value
		case "key":
			rec.ShareKey = value
		case "deleting":
			rec.Deleting = true
		case "holder":
			i := strings.LastIndexByte(value, '/')
			r, err := ref(value[:i])
			if err != nil {
				return err
			}
			rec.Holders = append(rec.Holders, snapshot.Holder{Ref: r, UID: value[i+1:]})
		default:
			return fmt.Errorf("no attribute %q", name)
		}
	}
	w.addresses[a] = rec
	return nil
}

func (w *World) node(args []string) error {
	n := &snapshot.Node{Name: args[0], Ready: true}
	var err error
	if n.InternalIPs, err = addrs(args[1]); err != nil {
		return err
	}
	n.PodCIDRs, err = prefixes(fieldsOf(args[2:])["pods"])
	w.nodes[n.Name] = n
	return err
}

func (w *World) namespace(args []string) error {
	w.spaces[args[0]] = &snapshot.Namespace{Name: args[0], Labels: fieldsOf(args[1:])}
	return nil
}

func (w *World) serviceCIDR(args []string) error {
	p, err := prefixes(args[1])
	w.cidrs[args[0]] = &snapshot.ServiceCIDR{Name: args[0], Prefixes: p}
	return err
}

func (w *World) option(args []string) error {
	f := fieldsOf(args)
	if f["class"] != "" {
		w.Opt.Class = f["class"]
	}
	if f["defaultClass"] != "" {
		w.Opt.DefaultClass = f["defaultClass"] == "true"
	}
	var err error
	w.Opt.Reserved, err = prefixes(f["reserved"])
	return err
}
