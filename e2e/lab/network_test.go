package lab

import (
	"encoding/json"
	"net/netip"
	"testing"
)

func TestNodeRangesAreApart(t *testing.T) {
	seen := map[string]bool{}
	for _, n := range nodes(20) {
		for _, text := range []string{n.pods().v4, n.pods().v6, n.lan().v4, n.lan().v6} {
			if _, err := netip.ParsePrefix(text); err != nil {
				t.Errorf("%s: %v", n.name, err)
			}
			if seen[text] {
				t.Errorf("%s: %s twice", n.name, text)
			}
			seen[text] = true
		}
	}
	if !contains(podsIPv4, nodes(3)[2].pods().v4) || !contains(podsIPv6, nodes(3)[2].pods().v6) {
		t.Error("a node's pods are outside the cluster's range")
	}
}

func contains(outer, inner string) bool {
	return netip.MustParsePrefix(outer).Contains(netip.MustParsePrefix(inner).Addr())
}

func TestNodeObjectsHoldTheirRanges(t *testing.T) {
	l := &Lab{nodes: nodes(2)}
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ PodCIDRs []string }
		}
	}
	if err := json.Unmarshal([]byte(l.nodeObjects()), &list); err != nil {
		t.Fatal(err)
	}
	got := list.Items[1]
	if got.Metadata.Name != "node2" || got.Spec.PodCIDRs[0] != "198.18.130.0/24" || got.Spec.PodCIDRs[1] != "fd98:18:80:2::/64" {
		t.Errorf("second node = %+v", got)
	}
}

func TestPodRoutesLeadToTheOthers(t *testing.T) {
	l := &Lab{nodes: nodes(2)}
	got := l.podRoutes("node1")
	want := []string{"route add 198.18.130.0/24 via 198.18.0.12", "route add fd98:18:80:2::/64 via fd98:18::c"}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("routes = %q", got)
	}
}
