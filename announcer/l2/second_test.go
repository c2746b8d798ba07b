package l2

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/test/asktest"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// A node has two links on one network, the second without an address. A question reaches
// both. The link that announces the address answers, once, and the other is silent. The
// second announces as well as the first.
func TestOneAnswerFromTheLinkThatAnnounces(t *testing.T) {
	l := newLAN(t)
	l.node.Run(t, "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "to1", "netns", l.client.Name)
	l.node.Run(t, "ip", "link", "set", "eth1", "up")
	for _, args := range [][]string{
		{"addr", "flush", "dev", "eth0"}, {"link", "add", "lan", "type", "bridge"}, {"link", "set", "eth0", "master", "lan"}, {"link", "set", "to1", "master", "lan", "up"},
		{"link", "set", "lan", "up"}, {"addr", "add", "198.18.0.2/24", "dev", "lan"}, {"addr", "add", "fd98:18::2/64", "dev", "lan", "nodad"},
	} {
		l.client.Run(t, append([]string{"ip"}, args...)...)
	}
	second, err := l.links.LinkByName("eth1")
	if err != nil {
		t.Fatal(err)
	}
	macs := map[string]string{"eth0": l.mac, "eth1": second.Attrs().HardwareAddr.String()}
	claims := []announcer.Claim{on4, {Addr: vip4.Next(), Link: "eth1"}, on6, {Addr: vip6.Next(), Link: "eth1"}}
	l.sync(t, l.holder(), claims...)
	var addrs []netip.Addr
	for _, c := range claims {
		addrs = append(addrs, c.Addr)
	}
	nstest.Eventually(t, "all are answered", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		var heard map[netip.Addr]*asktest.Heard
		l.client.Do(t, func() (err error) {
			heard, err = asktest.Ask(ctx, "lan", addrs)
			return err
		})
		most := int(time.Since(began)/asktest.Every) + 1
		for _, c := range claims {
			answers := heard[c.Addr].Answers
			if len(answers) > most || slices.ContainsFunc(answers, func(a asktest.Answer) bool { return a.MAC != macs[c.Link] }) {
				t.Fatalf("%s: %d answers to %d questions, by %v, want %s", c, len(answers), most, heard[c.Addr].Moves(), macs[c.Link])
			}
		}
		return !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return len(heard[a].Answers) == 0 })
	})
}
