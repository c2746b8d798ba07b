package announcer_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/announcer"
)

func TestClaims(t *testing.T) {
	vip4, vip6 := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")
	got := announcer.Claims([]announcer.VIP{{Addr: vip6, Links: []string{"eth1", "eth0"}}, {Addr: vip4, Links: []string{"eth0"}}})
	want := []announcer.Claim{{Addr: vip4, Link: "eth0"}, {Addr: vip6, Link: "eth0"}, {Addr: vip6, Link: "eth1"}}
	if !slices.Equal(got, want) {
		t.Errorf("Claims() = %v, want %v", got, want)
	}
}
