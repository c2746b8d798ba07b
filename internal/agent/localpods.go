package agent

import (
	"strings"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// localPods is what the NodeState says of the pods that links show; nil if the agent was
// told how to know them.
func (c *Config) localPods(known proxy.Known, links link.State) *snapshot.LocalPods {
	if !c.Options.Local.Auto() {
		return nil
	}
	out := &snapshot.LocalPods{Count: len(known.Routes)}
	var b netipx.IPSetBuilder
	for _, a := range known.Routes {
		b.Add(a)
	}
	if set, err := b.IPSet(); err == nil { // an error is about an invalid address
		out.Routes = set.Ranges()
	}
	if out.Count > 0 {
		out.Links = begin(links.PodLinks)
	}
	return out
}

// begin is how all of names begin, as in "cali*", or the only one.
func begin(names []string) string {
	if len(names) == 0 {
		return ""
	}
	common := names[0]
	for _, name := range names[1:] {
		for !strings.HasPrefix(name, common) {
			common = common[:len(common)-1]
		}
	}
	if len(names) > 1 {
		common += "*"
	}
	return common
}
