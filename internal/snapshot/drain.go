package snapshot

import "strings"

// DrainCauses is a set of reasons for which a node hands over what it announces.
type DrainCauses uint8

// The causes. Their values are on the wire between agents and never change.
const (
	DrainRemoval      DrainCauses = 1 << iota // fairlead is being removed; drains always
	DrainDeletion                             // the Node is deleted
	DrainShutdown                             // the machine shuts down
	DrainOutOfService                         // the Node is tainted out of service
	DrainCordon                               // the Node is cordoned
)

// DrainByDefault are the causes that count where no Announcement says otherwise.
const DrainByDefault = DrainDeletion | DrainShutdown | DrainOutOfService

// drainNames are the causes that an Announcement may name.
var drainNames = []struct {
	cause DrainCauses
	name  string
}{{DrainDeletion, "Deletion"}, {DrainShutdown, "Shutdown"}, {DrainOutOfService, "OutOfServiceTaint"}, {DrainCordon, "Cordon"}}

// DrainCause returns the cause that Announcement.spec.drainOn calls name; 0 if there is none.
func DrainCause(name string) DrainCauses {
	for _, n := range drainNames {
		if n.name == name {
			return n.cause
		}
	}
	return 0
}

// Names lists the causes as Announcements name them. DrainRemoval has no name there.
func (c DrainCauses) Names() (out []string) {
	for _, n := range drainNames {
		if c&n.cause != 0 {
			out = append(out, n.name)
		}
	}
	return out
}

// String lists all causes, with commas.
func (c DrainCauses) String() string {
	names := c.Names()
	if c&DrainRemoval != 0 {
		names = append(names, "removal")
	}
	return strings.Join(names, ",")
}
