package snapshot

// The labels of Services that somebody else serves.
const (
	proxyNameLabel = "service.kubernetes.io/service-proxy-name"
	headlessLabel  = "service.kubernetes.io/headless"
)

// ServedBy returns those of s's labels that Served reads, or nil.
func (s *Service) ServedBy() map[string]string {
	var out map[string]string
	for _, key := range []string{proxyNameLabel, headlessLabel} {
		if value, ok := s.Labels[key]; ok {
			if out == nil {
				out = map[string]string{}
			}
			out[key] = value
		}
	}
	return out
}

// Served reports whether s has anything for a Service proxy to do, and whether
// that proxy is the cluster's default one.
func (s *Service) Served() bool {
	if s.Type == ExternalName || s.Headless || len(s.ClusterIPs) == 0 {
		return false
	}
	_, foreign := s.Labels[proxyNameLabel]
	_, headless := s.Labels[headlessLabel]
	return !foreign && !headless
}
