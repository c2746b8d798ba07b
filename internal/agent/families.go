package agent

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// lacking returns the family that the node's kernel has no rules for; false if it has both.
func (cfg *Config) lacking() (snapshot.Family, bool) {
	for _, f := range []snapshot.Family{snapshot.IPv4, snapshot.IPv6} {
		if cfg.Serves != nil && !cfg.Serves(f) {
			return f, true
		}
	}
	return 0, false
}

// lacks says what the node does not forward; "" if nothing.
func (cfg *Config) lacks() string {
	if f, lacking := cfg.lacking(); lacking {
		return fmt.Sprintf("%s is not forwarded: the node's kernel takes no rules for it, as the agent's log says", f)
	}
	return ""
}

// ready returns those of vips that the node forwards.
func (cfg *Config) ready(vips map[netip.Addr]bool) map[netip.Addr]bool {
	f, lacking := cfg.lacking()
	if !lacking {
		return vips
	}
	out := maps.Clone(vips)
	maps.DeleteFunc(out, func(a netip.Addr, _ bool) bool { return snapshot.FamilyOf(a) == f })
	return out
}

// served returns st without the prefixes in which the node cannot forward a VIP: another node
// is to announce it.
func (cfg *Config) served(st link.State) link.State {
	f, lacking := cfg.lacking()
	if !lacking {
		return st
	}
	st.Links = slices.Clone(st.Links)
	for i, l := range st.Links {
		st.Links[i].Prefixes = slices.DeleteFunc(slices.Clone(l.Prefixes), func(p netip.Prefix) bool { return snapshot.FamilyOf(p.Addr()) == f })
	}
	return st
}
