package proxy

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// EndpointRefused is the reason of the Problem of a Service with an endpoint at an address
// where no endpoint may be.
const EndpointRefused snapshot.Reason = "EndpointRefused"

// MetadataServices are the addresses of clouds' metadata services, as Options.Refused has
// them. Those at link-local addresses are refused without it. One at 100.100.100.200 is
// not here: some clusters have pods around that address.
var MetadataServices = []netip.Prefix{
	netip.MustParsePrefix("fd00:ec2::254/128"), netip.MustParsePrefix("fd20:ce::254/128"), netip.MustParsePrefix("168.63.129.16/32"),
}

// refuses reports whether no endpoint may be at addr: who may write EndpointSlices
// could reach what only nodes may, and with a node's address (CVE-2021-25740).
func (p *nodeFacts) refuses(addr netip.Addr) bool {
	return !dialable(addr) || slices.ContainsFunc(p.refused, func(r netip.Prefix) bool { return r.Contains(addr) })
}

// refusal says which endpoint of svc is refused first, and what to do; nil if none is.
func refusal(svc *snapshot.Service, node *nodeFacts) *snapshot.Problem {
	var first netip.Addr
	for _, ep := range svc.Endpoints {
		if addr := ep.Addr.Addr(); node.refuses(addr) && (!first.IsValid() || addr.Less(first)) {
			first = addr
		}
	}
	if !first.IsValid() {
		return nil
	}
	return &snapshot.Problem{Service: svc.Ref, Reason: EndpointRefused, Message: fmt.Sprintf(
		"no connection goes to the endpoint %s: no endpoint may have this address; correct the Service's EndpointSlices", first)}
}
