package l2

import (
	"bytes"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// Somebody removes the table by which the kernel answers, or a part of it: that is noticed,
// and the next Sync repairs it, as often as it happens.
func TestRemovedTableIsRepaired(t *testing.T) {
	l := newLAN(t)
	ls := l.holder()
	woken := make(chan struct{}, 1)
	ls.Changed = func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	}
	l.run(t, ls)
	l.sync(t, ls, on4, on6)
	index := uint32(ls.held[on4].link)
	for _, command := range []string{
		"flush ruleset", "delete table netdev fairlead", "flush ruleset", "flush set netdev fairlead vips4", "flush map netdev fairlead links", "flush chain netdev fairlead answer-ndp",
		"flush table netdev fairlead",
	} {
		select {
		case <-woken:
		default:
		}
		l.node.Run(t, "nft", command)
		began := time.Now()
		nstest.Eventually(t, "all to be back after "+command, func() bool {
			select {
			case <-woken:
				l.sync(t, ls, on4, on6)
			default:
			}
			now, err := ls.answers.read()
			return err == nil && now.intact && len(now.ports) == 1 && now.addrs[answered{index, vip4}] && now.addrs[answered{index, vip6}]
		})
		t.Logf("%s: repaired after %s", command, time.Since(began).Round(time.Millisecond))
		if mac := l.asks(t, vip4); mac != l.mac {
			t.Errorf("after %s %s is answered with %q, want %s", command, vip4, mac, l.mac)
		}
		if mac := l.asks(t, vip6); mac != l.mac {
			t.Errorf("after %s %s is answered with %q, want %s", command, vip6, mac, l.mac)
		}
	}
}

// What others write to nftables, and the engine to its tables, does not wake the agent.
func TestOthersTransactionsWakeNobody(t *testing.T) {
	node := nstest.New(t, "node")
	c, err := answers{owner: Agents, netns: int(node.Handle)}.listen()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, command := range []string{"add table inet others", "delete table inet others", "add table ip fairlead", "add table netdev others", "add table netdev fairlead"} {
		node.Run(t, "nft", command)
	}
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	msgs, err := c.Receive()
	if err != nil {
		t.Fatal(err)
	}
	if first := msgs[0]; first.Header.Type&0xff != unix.NFT_MSG_NEWTABLE || first.Data[0] != unix.NFPROTO_NETDEV || !bytes.Contains(first.Data, []byte("fairlead\x00")) {
		t.Errorf("the first event that came is %+v", first)
	}
}

// What this process takes out of its table is not taken for the work of another one.
func TestOwnChangesAreKnown(t *testing.T) {
	l := newLAN(t)
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(l.node.Handle)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		t.Fatal(err)
	}
	ls := l.holder()
	l.sync(t, ls, on4, on6)
	l.sync(t, ls, on4)
	l.sync(t, ls, on4, on6)
	l.node.Run(t, "nft", "flush set netdev fairlead vips4")
	for own := 0; ; {
		msgs, err := c.Receive()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range msgs {
			switch {
			case !(answers{owner: Agents}).removesAnswers(m):
			case ls.answers.own.has(m.Header.PID):
				own++
			case own == 0:
				t.Error("another one is blamed before it did anything")
				return
			default:
				return
			}
		}
	}
}
