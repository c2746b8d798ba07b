package proxy

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// capturedVIPs decides which addresses each Service of type LoadBalancer may
// capture: those whose Address record names it by UID, and those in its status
// that are in none of our pools and have no record (other providers').
// A status alone never captures an address of ours: whoever may patch
// services/status could otherwise hijack any of them (CVE-2020-8554).
func capturedVIPs(s *snapshot.Snapshot) map[snapshot.Ref][]netip.Addr {
	out := make(map[snapshot.Ref][]netip.Addr)
	for _, a := range s.Addresses {
		if a.Deleting {
			continue
		}
		for _, h := range a.Holders {
			if svc := s.Service(h.Ref); svc != nil && svc.UID == h.UID && svc.Type == snapshot.LoadBalancer {
				out[h.Ref] = append(out[h.Ref], a.Addr)
			}
		}
	}
	for _, svc := range s.Services {
		if svc.Type != snapshot.LoadBalancer {
			continue
		}
		for _, in := range svc.Ingress {
			if in.IP.IsValid() && !in.Proxy && !ours(s, in.IP) {
				out[svc.Ref] = append(out[svc.Ref], in.IP)
			}
		}
	}
	for _, ips := range out {
		slices.SortFunc(ips, netip.Addr.Compare)
	}
	return out
}

// ours tells whether addr is recorded or in a pool.
func ours(s *snapshot.Snapshot, addr netip.Addr) bool {
	if _, ok := slices.BinarySearchFunc(s.Addresses, addr, func(a *snapshot.Address, want netip.Addr) int { return a.Addr.Compare(want) }); ok {
		return true
	}
	for _, p := range s.Pools {
		for _, r := range p.Ranges {
			if r.Contains(addr) {
				return true
			}
		}
	}
	return false
}
