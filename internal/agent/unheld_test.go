package agent

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// withoutKernel has u refuse nothing.
func (u *unheld) withoutKernel() {
	u.refused = func() ([]netip.Prefix, error) { return nil, nil }
	u.refuse = func(_, _ []netip.Prefix) error { return nil }
}

// TestUnheld: packets to what is announced are refused, and for a minute to what was, by
// this agent or the one before. While nothing changes, the kernel is not asked.
func TestUnheld(t *testing.T) {
	one, two := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.1/32")
	left := netip.MustParsePrefix("203.0.113.1/32")
	u := newUnheld(slog.New(slog.DiscardHandler))
	var said []string
	u.refused = func() ([]netip.Prefix, error) { return []netip.Prefix{left}, nil }
	u.refuse = func(p, _ []netip.Prefix) error { said = append(said, fmt.Sprint(p)); return nil }
	plan := func(prefixes ...netip.Prefix) bgp.Plan {
		var p bgp.Peer
		for _, prefix := range prefixes {
			p.Paths = append(p.Paths, bgp.Path{Prefix: prefix})
		}
		return bgp.Plan{Peers: []bgp.Peer{p, p}}
	}
	now := time.Unix(1000, 0)
	u.set(plan(), now)
	u.set(plan(two, one), now.Add(time.Second))
	u.set(plan(one), now.Add(2*time.Second))
	u.set(plan(one), now.Add(61*time.Second))
	u.set(plan(one), now.Add(63*time.Second))
	u.end()
	want := fmt.Sprint([]string{fmt.Sprint([]netip.Prefix{one, two, left}), fmt.Sprint([]netip.Prefix{one, two}), fmt.Sprint([]netip.Prefix{one}), "[]"})
	if fmt.Sprint(said) != want {
		t.Errorf("carried out: %v\nwanted: %v", said, want)
	}
}

// TestUnheldElsewhere: packets to an address that other clusters have too are refused only
// while it is announced here, also after a restart.
func TestUnheldElsewhere(t *testing.T) {
	vip, left := netip.MustParsePrefix("198.51.100.1/32"), netip.MustParsePrefix("2001:db8::1/128")
	u := newUnheld(slog.New(slog.DiscardHandler))
	var said []string
	u.refused = func() ([]netip.Prefix, error) { return []netip.Prefix{left}, nil }
	u.refuse = func(p, _ []netip.Prefix) error { said = append(said, fmt.Sprint(p)); return nil }
	svc := &snapshot.Service{Anycast: true, Ingress: []snapshot.Ingress{{IP: vip.Addr()}, {IP: left.Addr()}, {Hostname: "x"}}}
	now := time.Unix(1000, 0)
	for _, paths := range [][]bgp.Path{{{Prefix: vip}}, nil} {
		u.routeOn(&snapshot.Snapshot{Services: []*snapshot.Service{svc}})
		u.set(bgp.Plan{Peers: []bgp.Peer{{Paths: paths}}}, now)
	}
	if want := fmt.Sprint([]string{fmt.Sprint([]netip.Prefix{vip}), "[]"}); fmt.Sprint(said) != want {
		t.Errorf("carried out: %v\nwanted: %v", said, want)
	}
}
