package director

import (
	"slices"
	"strings"
	"testing"
)

// What is not known takes no node out: the network may lose any packet.
func TestDropped(t *testing.T) {
	all, own, nothing := Echo{true, true, true}, Echo{Own: true}, Echo{}
	noClient, noVIP := Echo{Own: true, VIP: true}, Echo{Own: true, Client: true}
	for _, tc := range []struct {
		name   string
		rounds []Echo
		want   string // in the answer; "": nothing is dropped, or that is not known
	}{
		{"no round", nil, ""},
		{"all arrives", []Echo{all, all, all}, ""},
		{"few rounds", []Echo{own, own}, ""},
		{"other nodes do not answer", []Echo{nothing, nothing, nothing, own, own}, ""},
		{"one of each kind arrived", []Echo{own, own, noClient, own, noVIP}, ""},
		{"one that arrived without the own one shows nothing", []Echo{own, own, own, {Client: true, VIP: true}}, "addresses that are not its own"},
		{"only the own address", []Echo{own, own, own}, "addresses that are not its own"},
		{"no client's address", []Echo{noClient, noClient, own}, "a client's address"},
		{"no VIP", []Echo{own, noVIP, own}, "from a VIP"},
	} {
		got := Dropped(tc.rounds)
		if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
		slices.Reverse(tc.rounds)
		if again := Dropped(tc.rounds); again != got {
			t.Errorf("%s: in another order got %q, want %q", tc.name, again, got)
		}
	}
}
