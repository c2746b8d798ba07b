package agent

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy/director"
)

// Connections to ports of a range are passed on to the pods' nodes unchanged, and live while
// endpoints come and go, the owner dies, and directing ends and begins. What is no longer in
// the range is refused.
func TestDirectRanges(t *testing.T) {
	nstest.NeedRoot(t)
	l := newDirectLab(t)
	const first, last = 9000, 9001
	for _, n := range l.nodes {
		for port := first; port <= last; port++ {
			n.serve(t, port)
		}
	}
	for _, vip := range directVIPs {
		l.tell(t, "address %s holder=default/web::tcp/80+tcp/%d-%d", vip.Addr(), first, last)
	}
	l.owner(t, 1)
	l.endpoints(t, "n2.1", "n3.1")
	l.able(t, true, true, true)
	nstest.Eventually(t, "no node has connections of before", func() bool {
		l.sync(t)
		return !slices.ContainsFunc(l.nodes, func(n *directNode) bool {
			graces := n.graces(t)
			return len(graces) != 4 || slices.Contains(graces, director.OnGrace)
		})
	})
	var all []*talk
	for _, vip := range directVIPs {
		for port := uint16(first); port <= last; port++ {
			all = append(all, l.open(t, netip.AddrPortFrom(vip.Addr(), port), 30)...)
		}
		l.open(t, vip, 10) // the port that the Service has by itself
	}
	pods := map[string]int{}
	for _, k := range all {
		pods[k.pod]++
	}
	if len(pods) != 4 {
		t.Errorf("connections by pod: %v", pods)
	}
	if out := l.nodes[0].space.Run(t, "conntrack", "-L", "-p", "tcp"); strings.Contains(out, "dport=9000 ") || strings.Contains(out, "dport=9001 ") {
		t.Errorf("the owner keeps state:\n%s", out)
	}
	l.endpoints(t, "n1.1", "n2.1", "n2.2", "n3.1", "n3.2")
	l.sync(t)
	live(t, "with 5 endpoints", all)
	l.ownerDies(t, all)
	l.tell(t, "service default/web forwarding=Masquerade")
	l.sync(t)
	live(t, "no longer directed", all)
	l.tell(t, "service default/web forwarding=Direct")
	l.sync(t)
	live(t, "directed again", all)

	l.narrowed(t, all, first, last)
}

// narrowed has the port last leave the range.
func (l *directLab) narrowed(t *testing.T, all []*talk, first, last uint16) {
	t.Helper()
	for _, vip := range directVIPs {
		l.tell(t, "address %s holder=default/web::tcp/80+tcp/%d-%d", vip.Addr(), first, first)
	}
	l.sync(t)
	var stays []*talk
	for _, k := range all {
		if netip.MustParseAddrPort(k.RemoteAddr().String()).Port() == first {
			stays = append(stays, k)
		}
	}
	live(t, "at the port that stays in the range", stays)
	for _, vip := range directVIPs {
		l.client.Do(t, func() error {
			c, err := net.DialTimeout("tcp", netip.AddrPortFrom(vip.Addr(), last).String(), directPatience)
			if err == nil {
				_ = c.Close()
			}
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("the port that left the range: %v", err)
			}
			return nil
		})
	}
}
