package sample

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/internal/traffic"
)

// tracker is a namespace that tracks connections, and what speaks with it.
func tracker(t *testing.T) (nstest.Space, *netlink.Handle) {
	t.Helper()
	ns := nstest.New(t, "tracked")
	h, err := netlink.NewHandleAt(ns.Handle, unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return ns, h
}

// track has the kernel of a namespace track a UDP connection.
func track(h *netlink.Handle, from, to string, port uint16) error {
	client, server, family := netip.MustParseAddr(from), netip.MustParseAddr(to), uint8(unix.AF_INET)
	if client.Is6() {
		family = unix.AF_INET6
	}
	return h.ConntrackCreate(netlink.ConntrackTable, netlink.InetFamily(family), &netlink.ConntrackFlow{
		FamilyType: family, TimeOut: 600,
		Forward: netlink.IPTuple{SrcIP: client.AsSlice(), DstIP: server.AsSlice(), SrcPort: port, DstPort: 53, Protocol: unix.IPPROTO_UDP},
		Reverse: netlink.IPTuple{SrcIP: server.AsSlice(), DstIP: client.AsSlice(), SrcPort: 53, DstPort: port, Protocol: unix.IPPROTO_UDP},
	})
}

// Flows are the connections that the kernel tracks, of both families.
func TestFlows(t *testing.T) {
	ns, h := tracker(t)
	for _, f := range [][2]string{{"198.51.100.7", "192.0.2.1"}, {"2001:db8::7", "2001:db8::1"}} {
		if err := track(h, f[0], f[1], 4000); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	ns.Do(t, func() error {
		return Flows(func(f traffic.Flow) { got = append(got, fmt.Sprint(f.Protocol, " ", f.From, " ", f.To, " ", f.Bytes)) })
	})
	slices.Sort(got)
	want := []string{"17 198.51.100.7:4000 192.0.2.1:53 0", "17 [2001:db8::7]:4000 [2001:db8::1]:53 0"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A node that tracks many connections answers without keeping those that go elsewhere.
func TestAttackByTrackedConnections(t *testing.T) {
	const flows, most = 5_000, 512 << 10
	ns, h := tracker(t)
	for i := range flows {
		if err := track(h, fmt.Sprintf("198.51.100.%d", i%250), "203.0.113.1", uint16(1000+i/250)); err != nil {
			t.Fatal(err)
		}
	}
	var before, after runtime.MemStats
	counted := 0
	runtime.GC()
	runtime.ReadMemStats(&before)
	ns.Do(t, func() error {
		return Flows(func(traffic.Flow) {
			if counted++; counted == flows { // what is held at the end of the list
				runtime.GC()
				runtime.ReadMemStats(&after)
			}
		})
	})
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("attack: a question while %d connections are tracked: %d KiB more memory", flows, grown>>10)
	if counted != flows {
		t.Errorf("%d connections of %d", counted, flows)
	}
	if grown > most {
		t.Errorf("the answer takes %d KiB", grown>>10)
	}
}
