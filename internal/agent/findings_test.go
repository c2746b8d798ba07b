package agent

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/l2"
)

// The NodeState says of a finding when it was probed only if it was.
func TestFindings(t *testing.T) {
	vip := netip.MustParseAddr("2001:db8::10")
	got := findings([]l2.Finding{{Addr: vip, UID: "u", ProbedAt: time.Unix(5, 0), Conflict: "c"}, {Addr: vip.Next(), UID: "v", Claimant: "d"}})
	if len(got) != 2 || got[0].Address != "2001:db8::10" || got[0].UID != "u" || got[0].ProbedAt.Unix() != 5 || got[0].Conflict != "c" {
		t.Errorf("a probe: %+v", got)
	}
	if got[1].ProbedAt != nil || got[1].Claimant != "d" {
		t.Errorf("a claim: %+v", got[1])
	}
}
