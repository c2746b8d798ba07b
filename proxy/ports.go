package proxy

import "github.com/fairlead/fairlead/internal/snapshot"

// portKey names the endpoints that one port of a Service has in one family.
type portKey struct {
	name   string
	proto  snapshot.Protocol
	family snapshot.Family
}

// byPort sorts the endpoints that a Service may have on node into its ports, in one walk.
// A walk for each port would cost a Service its ports squared: with 8,000 ports and
// 30 pods that is half a minute with each change.
func byPort(svc *snapshot.Service, node *nodeFacts) map[portKey][]*snapshot.Endpoint {
	out := make(map[portKey][]*snapshot.Endpoint, len(svc.Ports))
	for i := range svc.Endpoints {
		ep := &svc.Endpoints[i]
		if addr := ep.Addr.Addr(); !node.refuses(addr) {
			k := portKey{ep.PortName, ep.Protocol, snapshot.FamilyOf(addr)}
			out[k] = append(out[k], ep)
		}
	}
	return out
}
