package snapshot

import "strings"

// AnnotationAnycast is a Service's annotation. With "true", other clusters announce the
// Service's addresses too: without usable endpoints, packets to it take their way through
// the network instead of being refused.
const AnnotationAnycast = "fairlead.io/anycast"

// ParseAnycast reads the value of AnnotationAnycast. A blank value is "false". It returns
// false for ok if text is another word than "true" or "false".
func ParseAnycast(text string) (anycast, ok bool) {
	switch strings.TrimSpace(text) {
	case "true":
		return true, true
	case "", "false":
		return false, true
	}
	return false, false
}
