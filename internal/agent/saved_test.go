package agent

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/earlier"
	"github.com/fairlead/fairlead/proxy"
)

func TestSavedSnapshotComesBackWhole(t *testing.T) {
	dir := t.TempDir()
	want := exampleSnapshot()
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

// exampleSnapshot has something of most kinds.
func exampleSnapshot() *snapshot.Snapshot {
	ip := netip.MustParseAddr
	return &snapshot.Snapshot{
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
}

// What cannot be used is said, and is never a reason not to start.
func TestLoadRefusesWhatIsNotOurs(t *testing.T) {
	for name, tc := range map[string]struct{ data, want string }{
		"cut short":    {`{"Version":1,"Node":"n1","Snap`, "unexpected end"},
		"other node":   {`{"Version":1,"Node":"n2","Snapshot":{}}`, `node "n2"`},
		"other format": {`{"Version":99,"Node":"n1","Snapshot":{}}`, "version 99"},
		"empty":        {``, "unexpected end"},
		"no Snapshot":  {`{"Version":1,"Node":"n1"}`, "unexpected end"},
		"null":         {`{"Version":1,"Node":"n1","Snapshot":null}`, "damaged"},
		"a hole":       {`{"Version":1,"Node":"n1","Snapshot":{"Services":[null]}}`, "damaged"},
		"another kind": {`{"Version":1,"Node":"n1","Snapshot":{"Services":{}}}`, "cannot unmarshal"},
		"other digits": {`{"Version":1,"Node":"n1","Snapshot":{"Services":[]},"Sum":1}`, "checksum"},
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

// A file that the disk damaged anywhere, or that ends early, is not read: neither does
// the agent crash, nor does it forward to an address with another digit.
func TestDamagedFilesAreRefused(t *testing.T) {
	written := saved{Version: savedVersion, Node: "n1", Written: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Proxy: Fairlead, Snapshot: exampleSnapshot()}
	data, err := marshalSaved(written)
	if err != nil {
		t.Fatal(err)
	}
	refuses := func(what string, at int, data []byte) {
		t.Helper()
		// A bit may make a name of a field one that means the same.
		if got, err := unmarshalSaved(data, "n1"); err == nil && !reflect.DeepEqual(*got, written) {
			t.Errorf("%s at byte %d of %s: it is read", what, at, data)
		}
	}
	for i := range data {
		refuses("cut", i, data[:i])
		damaged := bytes.Clone(data)
		damaged[i] ^= 1 << (i % 8)
		refuses("a changed bit", i, damaged)
	}
}

// tableOf is what a node programs from a saved Snapshot.
func tableOf(s *snapshot.Snapshot) string {
	return proxy.Compile(s, "n1", nil, proxy.Options{}).String()
}

// v010 runs the program of v0.1.0.
func v010(t *testing.T, input []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(earlier.Program(t), args...)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("v0.1.0 %v: %v", args, err)
	}
	return out
}

// An agent that starts after an upgrade or a downgrade, while no API server answers,
// programs from the other version's file what that version programmed.
func TestSavedStateOfV010BothWays(t *testing.T) {
	now := exampleSnapshot()
	want := tableOf(now)
	if !strings.Contains(want, "198.51.100.1:8080") {
		t.Fatalf("the example serves nothing:\n%s", want)
	}
	data, err := marshalSaved(saved{Version: savedVersion, Node: "n1", Proxy: Fairlead, Snapshot: now})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(v010(t, data, "table")); got != want {
		t.Errorf("v0.1.0 makes of our file\n%s\nwant\n%s", got, want)
	}
	theirs := v010(t, data, "save")
	if bytes.Contains(theirs, []byte(`"Sum"`)) {
		t.Fatal("that is no file of v0.1.0")
	}
	got, err := unmarshalSaved(theirs, "n1")
	if err != nil {
		t.Fatal(err)
	}
	if text := tableOf(got.Snapshot); text != want || got.Proxy != Fairlead {
		t.Errorf("of a file of v0.1.0 come %q and\n%s\nwant\n%s", got.Proxy, text, want)
	}
}

// A file that cannot be used is one line in the log, and the agent starts without it.
func TestUnusableFileIsLogged(t *testing.T) {
	var log bytes.Buffer
	c := cluster{cfg: &Config{StateDir: t.TempDir(), Node: "n1", Log: slog.New(slog.NewTextHandler(&log, nil))}}
	if err := os.WriteFile(savedPath(c.cfg.StateDir), []byte(`{"Version":1,"Node":"n1","Snap`), 0o600); err != nil {
		t.Fatal(err)
	}
	c.recall()
	if c.saved != nil || strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "could not use the saved snapshot") {
		t.Errorf("saved %v, log %q", c.saved, log.String())
	}
}
