package snapshot

import "strings"

// Choose takes in what annotations of a Service choose for its connections. A word that
// cannot be read is refused by the allocator, and chooses nothing.
func (svc *Service) Choose(annotations map[string]string) {
	svc.Forwarding, _ = ParseForwarding(annotations[AnnotationForwarding])
	svc.ResetsRemoved, _ = ParseRemoved(annotations[AnnotationRemoved])
	svc.AllPorts, _ = ParseAffinity(annotations[AnnotationAffinity])
	svc.KeepsPorts, _ = ParseSourcePorts(annotations[AnnotationSourcePorts])
	svc.Helper, _ = ParseHelper(annotations[AnnotationHelper])
	svc.Anycast, _ = ParseBool(annotations[AnnotationAnycast])
	svc.Egress, _ = ParseBool(annotations[AnnotationEgress])
}

// AnnotationRemoved is a Service's annotation that says what happens to the open
// connections to an endpoint that the Service no longer has: Keep or Reset.
const AnnotationRemoved = "fairlead.io/removed-endpoints"

// The values of AnnotationRemoved.
const (
	RemovedKeep  = "Keep"  // they go on as long as both sides want
	RemovedReset = "Reset" // they end at once
)

// ParseRemoved reads the value of AnnotationRemoved: whether connections are reset. A blank
// value is Keep. It returns false for ok if text is another word than Keep or Reset.
func ParseRemoved(text string) (reset, ok bool) {
	switch strings.TrimSpace(text) {
	case RemovedReset:
		return true, true
	case "", RemovedKeep:
		return false, true
	}
	return false, false
}

// AnnotationAffinity is a Service's annotation that says for what a client stays with one
// pod: Port or AllPorts.
const AnnotationAffinity = "fairlead.io/affinity"

// The values of AnnotationAffinity.
const (
	AffinityPort     = "Port"     // each port by itself, as spec.sessionAffinity says
	AffinityAllPorts = "AllPorts" // all ports and addresses of the Service, over all protocols
)

// ParseAffinity reads the value of AnnotationAffinity: whether it is AllPorts. A blank value
// is Port. It returns false for ok if text is another word than these two.
func ParseAffinity(text string) (allPorts, ok bool) {
	switch strings.TrimSpace(text) {
	case AffinityAllPorts:
		return true, true
	case "", AffinityPort:
		return false, true
	}
	return false, false
}

// AnnotationSourcePorts is a Service's annotation that says which source port a connection
// has that is masqueraded: Random or Keep.
const AnnotationSourcePorts = "fairlead.io/source-ports"

// The values of AnnotationSourcePorts.
const (
	SourcePortsRandom = "Random" // any free one
	SourcePortsKeep   = "Keep"   // the client's, if it is free
)

// ParseSourcePorts reads the value of AnnotationSourcePorts: whether it is Keep. A blank
// value is Random. It returns false for ok if text is another word than these two.
func ParseSourcePorts(text string) (keep, ok bool) {
	switch strings.TrimSpace(text) {
	case SourcePortsKeep:
		return true, true
	case "", SourcePortsRandom:
		return false, true
	}
	return false, false
}

// AnnotationHelper is a Service's annotation that names the Helper of its connections.
const AnnotationHelper = "fairlead.io/helper"

// Helper is a helper of the kernel's connection tracking, by its name there.
type Helper string

// The helpers that a Service may ask for.
const (
	TFTP Helper = "tftp"
	FTP  Helper = "ftp"
)

// Helpers are all of them.
var Helpers = []Helper{FTP, TFTP}

// Protocol is that of the connections which h reads.
func (h Helper) Protocol() Protocol {
	if h == TFTP {
		return UDP
	}
	return TCP
}

// ParseHelper reads the value of AnnotationHelper. A blank value is "", for none. It returns
// false for a word that is not a helper.
func ParseHelper(text string) (Helper, bool) {
	switch h := Helper(strings.TrimSpace(text)); h {
	case "", TFTP, FTP:
		return h, true
	}
	return "", false
}
