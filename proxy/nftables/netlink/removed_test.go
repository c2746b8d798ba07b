package netlink

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/proxy"
)

// Where a Service asks for it, open connections to an endpoint that it no longer has are
// reset, also that of a client that only waits. An endpoint that terminates keeps its
// connections. So do those of a Service that does not ask.
func TestConnectionsToRemovedEndpointsEnd(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		a := addressesOf(family)
		for _, kind := range []proxy.Kind{proxy.VIP, proxy.ClusterIP, proxy.NodePort} {
			for name, from := range map[string]space{"client": l.client, "pod": l.podB} {
				t.Run(fmt.Sprintf("%s/%s/%s", family, kind, name), func(t *testing.T) { l.endpointRemoved(t, a, kind, from) })
			}
		}
	}
}

func (l *lab) endpointRemoved(t *testing.T, a addressing, kind proxy.Kind, from space) {
	front := func(port uint16, members, cluster []netip.Addr) *proxy.Frontend {
		f := a.front(kind, "tcp", cluster...)
		if f.Port += port; kind == proxy.NodePort {
			f.Addr = netip.Addr{}
		}
		if members != nil {
			f.Members = []netip.AddrPort{}
		}
		for _, m := range members {
			f.Members = append(f.Members, a.ep(m))
		}
		return f
	}
	old, new := []netip.Addr{a.podA}, []netip.Addr{a.remote}
	open := func(port uint16) net.Conn {
		t.Helper()
		c, err := from.dial("tcp", a.address(front(port, nil, old)), netip.AddrPort{}, patient)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if got, err := say(c, patient); err != nil {
			t.Fatal(got, err)
		}
		return c
	}
	sync(t, l.engine, a.table(front(0, old, old), front(1, old, old), front(2, nil, old)))
	leaves, terminates, unasked := open(0), open(1), open(2)
	sync(t, l.engine, a.table(front(0, new, new), front(1, append(old, new...), new), front(2, nil, new)))
	began := time.Now()
	if err := leaves.SetReadDeadline(began.Add(10 * patient)); err != nil {
		t.Fatal(err)
	}
	n, err := leaves.Read(make([]byte, 1))
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("a client that waits read %d bytes, %v", n, err)
	}
	t.Logf("reset after %s", time.Since(began).Round(time.Millisecond))
	for what, c := range map[string]net.Conn{"to an endpoint that terminates": terminates, "of a Service that does not ask": unasked} {
		if got, err := say(c, patient); err != nil {
			t.Errorf("the connection %s: %q, %v", what, got, err)
		}
	}
	// Nobody is left.
	sync(t, l.engine, a.table(front(0, []netip.Addr{}, nil), front(1, []netip.Addr{}, nil), front(2, nil, nil)))
	if _, err := terminates.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the last endpoint has gone: %v", err)
	}
}
