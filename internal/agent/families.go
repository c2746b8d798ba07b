package agent

import (
	"fmt"
	"slices"

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

// unforwarded returns the families that fairlead cannot forward on this node, sorted.
// Another proxy may need neither the rules nor the settings: it answers for itself.
func (a *Agent) unforwarded() []snapshot.Family {
	if a.engine.proxy != Fairlead {
		return nil
	}
	out := a.sysctls.closed()
	if f, lacking := a.cfg.lacking(); lacking {
		out = append(out, f)
		slices.Sort(out)
	}
	return slices.Compact(out)
}
