package link

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// follower announces two VIPs on every link whose prefix contains them, as the
// agent does: a step after each event.
type follower struct {
	node nstest.Space
	vips []netip.Addr

	mu   sync.Mutex
	held []announcer.Claim
}

func (f *follower) run(t *testing.T, ls *l2.Leases) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wake := make(chan struct{}, 1)
	wake <- struct{}{}
	wg.Go(func() { f.node.Do(t, func() error { ls.Run(ctx); return nil }) })
	wg.Go(func() {
		f.node.Do(t, func() error {
			return Watch(ctx, func() {
				select {
				case wake <- struct{}{}:
				default:
				}
			})
		})
	})
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-wake:
				f.step(t, ls)
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

func (f *follower) step(t *testing.T, ls *l2.Leases) {
	st := read(t, f.node)
	var want []announcer.Claim
	for _, vip := range f.vips {
		for _, l := range st.Links {
			if l.Contains(vip) {
				want = append(want, announcer.Claim{Addr: vip, Link: l.Name})
			}
		}
	}
	held, _ := ls.Sync(announcer.Set{Claims: want}) // a link that vanished meanwhile is an error, and the next event is on its way
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = held
}

// on reports whether every VIP is held on these links and no others.
func (f *follower) on(links ...string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, vip := range f.vips {
		var got []string
		for _, c := range f.held {
			if c.Addr == vip {
				got = append(got, c.Link)
			}
		}
		if slices.Sort(got); !slices.Equal(got, links) {
			return false
		}
	}
	return true
}

// Links are followed: what loses its carrier, vanishes, appears, has another MAC
// or another name. A second is what it may take; on a busy machine ten.
func TestHolderFollowsLinks(t *testing.T) {
	node, client := nstest.New(t, "node"), nstest.New(t, "client")
	nstest.Wire(t, node, client, "198.18.0.1/24", "198.18.0.2/24")
	v4, v6 := netip.MustParseAddr("198.18.0.200"), netip.MustParseAddr("fd98:18::200")
	node.Run(t, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.keep_addr_on_down=1", "net.ipv6.conf.eth0.keep_addr_on_down=1")
	node.Run(t, "ip", "addr", "add", "fd98:18::1/64", "dev", "eth0", "nodad")
	client.Run(t, "ip", "addr", "add", "fd98:18::2/64", "dev", "eth0", "nodad")
	f := &follower{node: node, vips: []netip.Addr{v4, v6}}
	f.run(t, l2.New(node.Netlink(t), int(node.Handle), slog.New(slog.DiscardHandler)))
	within := func(what string, ok func() bool) {
		t.Helper()
		began := time.Now()
		nstest.Eventually(t, what, ok)
		took := time.Since(began)
		t.Logf("%s: %v", what, took.Round(time.Millisecond))
		if took > 10*time.Second {
			t.Errorf("%s took %v", what, took)
		}
	}
	sees := func(mac string) func() bool {
		return func() bool {
			return strings.Contains(client.Run(t, "ip", "neigh", "show", v4.String()), mac) && strings.Contains(client.Run(t, "ip", "neigh", "show", v6.String()), mac)
		}
	}
	stale := func() {
		for _, vip := range f.vips {
			client.Run(t, "ip", "neigh", "replace", vip.String(), "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale")
		}
	}

	within("both are held", func() bool { return f.on("eth0") })
	client.Run(t, "ip", "link", "set", "eth0", "down")
	within("withdrawn without carrier", func() bool { return f.on() })
	client.Run(t, "ip", "link", "set", "eth0", "up")
	within("held again with carrier", func() bool { return f.on("eth0") })

	node.Run(t, "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", client.Name)
	client.Run(t, "ip", "link", "set", "eth1", "up")
	node.Run(t, "ip", "addr", "add", "198.18.0.3/24", "dev", "eth1")
	node.Run(t, "ip", "addr", "add", "fd98:18::3/64", "dev", "eth1", "nodad")
	node.Run(t, "ip", "link", "set", "eth1", "up")
	within("held on a new link too", func() bool { return f.on("eth0", "eth1") })
	for _, link := range []string{"eth0", "eth1"} {
		if out := node.Run(t, "ip", "-6", "maddr", "show", "dev", link); !strings.Contains(out, "ff02::1:ff00:200") {
			t.Errorf("the solicited-node group is not joined on %s:\n%s", link, out)
		}
	}
	node.Run(t, "ip", "link", "del", "eth1")
	within("a link that vanished is left", func() bool { return f.on("eth0") })

	client.Run(t, "ip", "addr", "add", "fd98:18::2/64", "dev", "eth0", "nodad") // it went with the carrier
	stale()
	node.Run(t, "ip", "link", "set", "eth0", "address", "02:00:00:00:00:42")
	within("announced again with the new MAC", sees("02:00:00:00:00:42"))

	node.Run(t, "ip", "link", "set", "eth0", "down")
	node.Run(t, "ip", "link", "set", "eth0", "name", "lan0")
	stale()
	node.Run(t, "ip", "link", "set", "lan0", "up")
	within("held under the new name", func() bool { return f.on("lan0") })
	within("announced under the new name", sees("02:00:00:00:00:42"))
}
