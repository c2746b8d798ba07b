package agent

import (
	"strings"

	"github.com/fairlead/fairlead/announcer"
)

// aboutMembers says how it stands with the other agents.
func aboutMembers(v announcer.View) (ok bool, reason, message string) {
	switch {
	case v.Guarded:
		return false, "Guarded", "more than half of the nodes vanished at once: the network broke, or this node is cut off; no endpoint of theirs is taken out"
	case len(v.Clashes) > 0:
		return false, "NameClash", strings.Join(v.Clashes, "; ")
	case len(v.Members) == 0:
		return false, "NotMet", "this agent has not met the others yet"
	}
	return true, "InTouch", "the agents speak with each other"
}
