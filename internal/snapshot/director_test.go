package snapshot_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// What a Service says counts before what Announcements say, and nothing makes one with
// externalTrafficPolicy Local directed.
func TestForwarding(t *testing.T) {
	const (
		pools     = "pool lan 192.0.2.0/24 labels=net=lan\npool far 198.51.100.0/24 labels=net=far\n"
		all       = "announcement all forwarding=Direct\n"
		far       = "announcement far forwarding=Direct pool=net=far\n"
		gold      = "announcement gold forwarding=Direct service=tier=gold\n"
		otherwise = "announcement otherwise forwarding=Masquerade\n"
		plain     = "announcement plain\n"
	)
	for _, tc := range []struct {
		name, cluster string
		want          snapshot.Forwarding
	}{
		{"nothing is asked for", "service a/web held=192.0.2.1", snapshot.Masquerade},
		{"an Announcement that does not say", plain + "service a/web held=192.0.2.1", snapshot.Masquerade},
		{"an Announcement of all", all + "service a/web held=192.0.2.1", snapshot.Direct},
		{"one of two Announcements", all + otherwise + plain + "service a/web held=192.0.2.1", snapshot.Direct},
		{"an Announcement over BGP", "announcement r forwarding=Direct bgp\nservice a/web held=192.0.2.1", snapshot.Direct},
		{"an Announcement of another pool", far + "service a/web held=192.0.2.1", snapshot.Masquerade},
		{"an Announcement of one of its addresses", far + "service a/web policy=Prefer held=192.0.2.1,198.51.100.1", snapshot.Direct},
		{"an Announcement of other Services", gold + "service a/web held=192.0.2.1", snapshot.Masquerade},
		{"an Announcement of this Service", gold + "service a/web labels=tier=gold held=192.0.2.1", snapshot.Direct},
		{"an Announcement that does not select who shares the address", gold + "address 192.0.2.1 holder=a/web,a/dns key=k\n" +
			"service a/web labels=tier=gold status=192.0.2.1 key=k\nservice a/dns status=192.0.2.1 key=k", snapshot.Masquerade},
		{"the annotation", "service a/web forwarding=Direct held=192.0.2.1", snapshot.Direct},
		{"the annotation against an Announcement", all + "service a/web forwarding=Masquerade held=192.0.2.1", snapshot.Masquerade},
		{"the annotation is empty", all + "service a/web forwarding= held=192.0.2.1", snapshot.Direct},
		{"the annotation is not a way", all + "service a/web forwarding=direct held=192.0.2.1", snapshot.Direct},
		{"the annotation, policy Local", "service a/web forwarding=Direct external=Local held=192.0.2.1", snapshot.Masquerade},
		{"an Announcement, policy Local", all + "service a/web external=Local held=192.0.2.1", snapshot.Masquerade},
		{"no load balancer", "service a/web forwarding=Direct type=NodePort", snapshot.Masquerade},
		{"an address in the status alone", all + "service a/web status=192.0.2.1", snapshot.Masquerade},
		{"an address that another Service holds", all + "address 192.0.2.1 holder=a/dns\nservice a/web status=192.0.2.1", snapshot.Masquerade},
		{"an earlier Service of the name holds it", all + "address 192.0.2.1 holder=a/web:old\nservice a/web status=192.0.2.1", snapshot.Masquerade},
		{"there is no such Service", all, snapshot.Masquerade},
	} {
		w := storytest.NewWorld()
		if err := w.Do(pools + tc.cluster); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		s, err := w.Snapshot()
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if got := s.Forwarding(snapshot.Ref{Namespace: "a", Name: "web"}); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestParseForwarding(t *testing.T) {
	for text, want := range map[string]snapshot.Forwarding{"": "", " ": "", "Direct": snapshot.Direct, " Masquerade\n": snapshot.Masquerade} {
		if got, ok := snapshot.ParseForwarding(text); got != want || !ok {
			t.Errorf("%q: got %q, %t", text, got, ok)
		}
	}
	for _, text := range []string{"direct", "MASQUERADE", "Direct,Masquerade", "Local"} {
		if got, ok := snapshot.ParseForwarding(text); got != "" || ok {
			t.Errorf("%q: got %q, %t", text, got, ok)
		}
	}
}

// Other nodes pass packets on to the first address of a family: one that is link-local
// comes last.
func TestDirectorLinks(t *testing.T) {
	prefixes := []netip.Prefix{netip.MustParsePrefix("fe80::5/64"), netip.MustParsePrefix("192.0.2.5/24"), netip.MustParsePrefix("2001:db8::5/64")}
	links := []snapshot.Link{
		{Name: "eth1", MAC: "02:00:00:00:00:02"}, {Name: "eth0", MAC: "02:00:00:00:00:01", Prefixes: prefixes}, {Name: "tun0", Prefixes: prefixes}, {Name: "eth2", MAC: "02:00:00:00:00:03"},
	}
	got := snapshot.DirectorLinks(links, []string{"eth0", "eth1", "tun0", "gone"})
	const want = "director eth0=02:00:00:00:00:01[192.0.2.5 2001:db8::5 fe80::5] eth1=02:00:00:00:00:02[]"
	if text := (&snapshot.DirectorState{Able: true, Links: got}).String(); text != want {
		t.Errorf("got %s\nwant %s", text, want)
	}
	if slices.ContainsFunc(got, func(l snapshot.DirectorLink) bool { return l.Name == "tun0" }) {
		t.Error("a link without a MAC takes packets")
	}
}
