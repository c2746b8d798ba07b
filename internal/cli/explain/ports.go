package explain

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// portRanges tells which ranges of ports the Service has, if it asks for some or has some.
func (e *explaining) portRanges() {
	asked, _ := snapshot.ParsePortRanges(e.svc.Annotations[snapshot.AnnotationPorts])
	if e.plan.OfNodes || len(e.plan.Addrs) == 0 {
		return // the address says why
	}
	if e.FromFiles {
		if len(asked) > 0 && e.plan.Refusal == nil {
			e.ok("ports", "%s", rangesText(asked))
		}
		return
	}
	step := Step{Name: "ports", Mark: OK}
	var all []string
	for _, a := range e.plan.Addrs {
		record := e.Snapshot.Address(a)
		if record == nil {
			continue
		}
		has := record.Ranges(e.svc.Ref, e.svc.UID)
		text := "none but those of spec.ports"
		if len(has) > 0 {
			text = rangesText(has)
		}
		all = append(all, text)
		step.Details = append(step.Details, Step{Name: a.String(), Mark: OK, Text: text})
	}
	if len(all) == 0 || len(asked) == 0 && !slices.ContainsFunc(e.plan.Addrs, e.hasRanges) {
		return
	}
	step.Text = all[0]
	if same := !slices.ContainsFunc(all, func(t string) bool { return t != all[0] }); same {
		step.Details = nil
	} else {
		step.Text = "not the same on each address"
	}
	e.add(step)
	e.rangesElsewhere()
}

// hasRanges reports whether the record of a gives the Service ranges of ports.
func (e *explaining) hasRanges(a netip.Addr) bool {
	record := e.Snapshot.Address(a)
	return record != nil && len(record.Ranges(e.svc.Ref, e.svc.UID)) > 0
}

// rangesElsewhere tells what does not know ranges of ports.
func (e *explaining) rangesElsewhere() {
	var others []string
	for _, n := range e.NodeStates {
		if n.Engine.Mode != "" && n.Engine.Mode != "nftables" {
			others = append(others, n.Node)
		}
	}
	if len(others) > 0 {
		e.note("ports", "they are refused on %s, where another proxy forwards: only fairlead knows ranges of ports", strings.Join(others, ", "))
	}
}

// rangesText says where packets for ranges of ports go.
func rangesText(ranges []snapshot.PortRange) string {
	return snapshot.PortRangesText(ranges) + ", each to the same port of an endpoint; a port of spec.ports goes where that says"
}
