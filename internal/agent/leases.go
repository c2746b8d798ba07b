package agent

import (
	"github.com/fairlead/fairlead/internal/dhcp"
	"github.com/fairlead/fairlead/internal/node"
)

// followLeases has this node keep the DHCP leases that it is elected for. While it is not
// sure who is alive, it keeps what it has.
func (a *Agent) followLeases(in node.Inputs) {
	if !in.Sure {
		return
	}
	a.dhcp.Follow(dhcp.Inputs{Node: in.Node, Snapshot: in.Snapshot, View: in.View, Links: in.Links, Own: in.Own, Routers: in.Routers})
}
