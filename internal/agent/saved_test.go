package agent

import (
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
)

func TestSavedSnapshotComesBackWhole(t *testing.T) {
	dir := t.TempDir()
	ip := netip.MustParseAddr
	want := &snapshot.Snapshot{
		Services: []*snapshot.Service{{
			Ref: snapshot.Ref{Namespace: "a", Name: "web"}, UID: "u", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
			Type: snapshot.LoadBalancer, ClusterIPs: []netip.Addr{ip("203.0.113.1"), ip("2001:db8::1")}, Affinity: 10 * time.Second,
			Ports:     []snapshot.Port{{Name: "http", Protocol: snapshot.TCP, Port: 80, NodePort: 30080}},
			Endpoints: []snapshot.Endpoint{{PortName: "http", Protocol: snapshot.TCP, Addr: netip.MustParseAddrPort("198.51.100.1:8080"), Node: "n1", Ready: true, Serving: true}},
			Ingress:   []snapshot.Ingress{{IP: ip("192.0.2.1")}, {Hostname: "x"}}, Conditions: map[string]snapshot.Condition{"c": {Status: "True"}},
		}},
		Nodes: []*snapshot.Node{{Name: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, Ready: true}},
		Pools: []*snapshot.Pool{{
			Name: "lan", Ranges: []netipx.IPRange{netipx.MustParseIPRange("192.0.2.1-192.0.2.9")}, Priority: snapshot.NoPriority,
			ServiceSelector: &snapshot.Selector{MatchLabels: map[string]string{"a": "b"}},
		}},
		Addresses:  []*snapshot.Address{{Addr: ip("192.0.2.1"), Pool: "lan", Holders: []snapshot.Holder{{Ref: snapshot.Ref{Namespace: "a", Name: "web"}, UID: "u"}}}},
		NodeStates: []*snapshot.NodeState{{Electable: snapshot.Electable{Node: "n1", InSync: true, Links: []snapshot.Link{{Name: "eth0", Index: 2, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.77/24")}}}}}},
	}
	if err := save(dir, saved{Node: "n1", Snapshot: want}); err != nil {
		t.Fatal(err)
	}
	got, err := load(dir, "n1")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Snapshot, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got.Snapshot, want)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

// What cannot be used is said, and is never a reason not to start.
func TestLoadRefusesWhatIsNotOurs(t *testing.T) {
	for name, tc := range map[string]struct{ data, want string }{
		"cut short":    {`{"Version":1,"Node":"n1","Snap`, "unexpected end"},
		"other node":   {`{"Version":1,"Node":"n2","Snapshot":{}}`, `node "n2"`},
		"other format": {`{"Version":99,"Node":"n1","Snapshot":{}}`, "version 99"},
		"empty":        {``, "unexpected end"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(savedPath(dir), []byte(tc.data), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := load(dir, "n1")
			if got != nil || err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("load() = %v, %v; want an error with %q", got, err, tc.want)
			}
		})
	}
	if got, err := load(t.TempDir(), "n1"); got != nil || err != nil {
		t.Errorf("an empty folder: %v, %v", got, err)
	}
}
