package storytest

import (
	"cmp"
	"maps"
	"net/netip"
	"strings"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Options returns what the lines "option" say, by default that Services without
// a class are served.
func (w *World) Options() allocator.Options {
	return allocator.Options{Class: cmp.Or(w.options["class"], "fairlead.io/lb"), DefaultClass: w.options["defaultClass"] != "false"}
}

// Apply makes the Plan true: its records and no others, and the statuses of the
// Services that it names.
func (w *World) Apply(p *allocator.Plan) {
	w.built = nil
	wanted := map[thing]bool{}
	for _, a := range p.Addresses {
		var holders []string
		for _, h := range a.Holders {
			holders = append(holders, holderText(h))
		}
		id := record(a.Addr)
		wanted[id] = true
		maps.Copy(w.at(id).values, map[string]string{
			"pool": a.Pool, "lease": a.Lease, "node": a.Node, "key": a.ShareKey, "backend": a.ShareGroup, "holder": strings.Join(holders, ","),
		})
	}
	maps.DeleteFunc(w.things, func(id thing, _ *item) bool { return kinds[id.kind].name == "address" && !wanted[id] })
	for _, o := range p.Pools {
		var leases []string
		for _, l := range o.Leases {
			text := l.Ref.String() + "/" + strings.TrimPrefix(l.Family.String(), "IPv")
			if l.Addr.IsValid() {
				text += "/" + l.Addr.String()
			}
			leases = append(leases, text)
		}
		if o.Leasing.Reason != "" {
			w.at(thing{kind: kindOf("pool"), name: o.Name}).values["leases"] = strings.Join(leases, ",")
		}
	}
	for _, o := range p.Services {
		var status []string
		for _, a := range o.Addrs {
			status = append(status, a.String())
		}
		w.at(thing{kind: kindOf("service"), name: o.Ref.String()}).values["status"] = strings.Join(status, ",")
	}
}

// addHolder makes a Service a holder of the addresses, by records and by its status.
func (w *World) addHolder(id thing, addrs string) error {
	if addrs == "" {
		return nil
	}
	s, err := w.Snapshot()
	if err != nil {
		return err
	}
	r, err := ref(id.name)
	if err != nil {
		return err
	}
	svc := s.Service(r)
	h := snapshot.Holder{Ref: r, UID: svc.UID}
	for _, p := range svc.Ports {
		h.Ports = append(h.Ports, snapshot.HeldPort{Protocol: p.Protocol, Port: p.Port})
	}
	h.Ranges, _ = snapshot.ParsePortRanges(svc.Annotations[allocator.AnnotationPorts])
	for _, text := range list(addrs) {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return err
		}
		w.record(addr, svc, w.things[id].values["selector"], h)
	}
	values := w.things[id].values
	values["status"] = joined(values["status"], addrs)
	return nil
}

// record adds a holder to a record, which it makes if there is none: the first
// holder says what those that follow have in common with it.
func (w *World) record(addr netip.Addr, svc *snapshot.Service, selector string, h snapshot.Holder) {
	_, there := w.things[record(addr)]
	values := w.at(record(addr)).values
	if key := svc.Annotations[allocator.AnnotationShareKey]; !there && key != "" {
		values["key"] = key
		if svc.ExternalTrafficPolicy == snapshot.PolicyLocal {
			values["backend"] = "local:" + selector
		}
	}
	values["holder"] = joined(values["holder"], holderText(h))
}

func record(addr netip.Addr) thing { return thing{kind: kindOf("address"), name: addr.String()} }

func joined(texts ...string) string {
	return strings.Join(strings.FieldsFunc(strings.Join(texts, ","), func(r rune) bool { return r == ',' }), ",")
}
