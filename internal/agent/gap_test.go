package agent

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// A gap lasts from the last answer of the node that died until the address is held, and is
// told as long as it is. After that it is another one.
func TestGaps(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	died := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	owned := func(by string, addrs ...netip.Addr) (s node.State) {
		for _, addr := range addrs {
			s.Refused = append(s.Refused, announcer.Refused{Addr: addr, Owner: by, Refusal: snapshot.Refusal{Reason: announcer.NotOwner}})
		}
		return s
	}
	elected := func(addrs ...netip.Addr) (s node.State) {
		for _, addr := range addrs {
			s.Elected = append(s.Elected, announcer.VIP{Addr: addr})
		}
		return s
	}
	last := func(node string) time.Time {
		if node == "dead" {
			return died
		}
		return time.Time{}
	}
	hold := func(g *gaps, after time.Duration, addrs ...netip.Addr) {
		var claims []announcer.Claim
		for _, addr := range addrs {
			claims = append(claims, announcer.Claim{Addr: addr, Link: "eth0"})
		}
		g.held(claims, died.Add(after))
	}
	want := func(g *gaps, what string, wantA, wantB time.Duration) {
		t.Helper()
		got := g.in([]snapshot.Announced{{Addr: a}, {Addr: b}})
		if got[0].Gap != wantA || got[1].Gap != wantB {
			t.Errorf("%s: %v and %v, want %v and %v", what, got[0].Gap, got[1].Gap, wantA, wantB)
		}
	}
	g := &gaps{}
	g.follow(owned("dead", a, b), elected(a), last)
	want(g, "it is not held yet", 0, 0)
	hold(g, 150*time.Millisecond, a)
	hold(g, time.Minute, a)
	want(g, "it is held", 150*time.Millisecond, 0)
	g.follow(elected(a), elected(a, b), last) // b had no owner
	hold(g, time.Hour, a, b)
	want(g, "another one is held too", 150*time.Millisecond, 0)
	g.follow(elected(a, b), elected(b), last)
	want(g, "it is another node's again", 0, 0)
	alive := elected(b)
	alive.Refused = owned("alive", a).Refused
	g.follow(alive, elected(a, b), last)
	hold(g, 2*time.Hour, a, b)
	want(g, "it was handed over", 0, 0)
}
