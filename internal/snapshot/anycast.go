package snapshot

// AnnotationAnycast is a Service's annotation. With "true", other clusters announce the
// Service's addresses too: without usable endpoints, packets to it take their way through
// the network instead of being refused.
const AnnotationAnycast = "fairlead.io/anycast"
