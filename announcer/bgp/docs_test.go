package bgp_test

import (
	"os"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// TestDocs: docs/bgp.md tells every reason.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile("../../docs/bgp.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []snapshot.Reason{
		bgp.BadTimers, bgp.BadPeer, bgp.NoRouter, bgp.BadBFD, bgp.SameAddress, bgp.PasswordMissing, bgp.BadCommunity, bgp.BadAggregation, bgp.LocalPrefConflict,
		bgp.NoPeer, bgp.NoNextHop, bgp.NoEndpoint, bgp.NoLocalEndpoint, bgp.NodeNotEligible, bgp.EngineNotReady,
	} {
		if !strings.Contains(string(data), "| `"+string(r)+"` |") {
			t.Errorf("docs/bgp.md does not say %s", r)
		}
	}
}
