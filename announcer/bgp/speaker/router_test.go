package speaker_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/internal/test/routertest"
)

// plain is a router that waits for the node, by each family.
func plain() routertest.Config {
	return routertest.Config{ASN: routerASN, ID: router4, Neighbors: []routertest.Neighbor{
		{Addr: node4, Local: router4, ASN: nodeASN}, {Addr: node6, Local: router6, ASN: nodeASN},
	}}
}

// world is a node and a router on one wire.
type world struct {
	kind         string
	node, router nstest.Space
	routertest.Router
}

// everyRouter tells a story to each kind of router, on a wire of its own.
func everyRouter(t *testing.T, c routertest.Config, story func(t *testing.T, w world)) {
	t.Helper()
	for name, start := range routertest.Routers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world{kind: name}
			w.node, w.router = wired(t)
			w.Router = start(t, w.router, c)
			story(t, w)
		})
	}
}

// has reports whether the router's kernel has routes to all of addrs.
func (w world) has(t *testing.T, addrs ...string) func() bool {
	return func() bool {
		got := routes(t, w.router)
		return !slices.ContainsFunc(addrs, func(a string) bool { return !strings.Contains(got, a) })
	}
}

// TestRoutes: a session by each family carries both, is there within seconds, the
// paths come into the router's kernel, and go one by one: a path that changes is an
// UPDATE to the peers that have it, and to no other.
func TestRoutes(t *testing.T) {
	everyRouter(t, plain(), func(t *testing.T, w world) {
		p := start(t, w.node)
		p.sync(peer("four", router4, "198.19.0.1/32", "fd98:19::1/128"), peer("six", router6, "198.19.0.2/32", "fd98:19::2/128"))
		took := within(t, "both sessions are established", p.established(2))
		if took > 30*time.Second { // ten times the bound
			t.Errorf("the sessions took %s", took)
		}
		within(t, "four routes in the kernel", func() bool {
			got := routes(t, w.router)
			return strings.Count(got, "via "+node4) == 2 && strings.Count(got, "via "+node6) == 2
		})
		within(t, "what was sent is counted", func() bool {
			st := p.status()
			return st[0].Updates >= 2 && st[1].Updates >= 2 && st[0].Prefixes == 2 && st[1].Prefixes == 2
		})
		before := p.status()
		p.sync(peer("four", router4, "198.19.0.1/32"), peer("six", router6, "198.19.0.2/32", "fd98:19::2/128"))
		within(t, "one route is withdrawn", func() bool { return !strings.Contains(routes(t, w.router), "fd98:19::1") })
		within(t, "the UPDATE is counted", func() bool { return p.status()[0].Updates > before[0].Updates })
		after := p.status()
		if sent := after[0].Updates - before[0].Updates; sent != 1 || after[1].Updates != before[1].Updates {
			t.Errorf("withdrawing one path took %d UPDATEs, and %d to the other peer", sent, after[1].Updates-before[1].Updates)
		}
		p.sync(peer("six", router6, "198.19.0.2/32", "fd98:19::2/128"))
		within(t, "the closed session's routes are gone", func() bool { return !strings.Contains(routes(t, w.router), "198.19.0.1") })
		if st := p.status(); len(st) != 1 || !st[0].Established || st[0].Flaps != 0 {
			t.Errorf("the other session did not stay: %+v", st)
		}
	})
}

// TestPassword: sessions with TCP MD5; a changed password resets that session
// once, and one that is wrong keeps it down with the reason.
func TestPassword(t *testing.T) {
	const four, six = 0, 1
	c := plain()
	c.Neighbors[four].Password, c.Neighbors[six].Password = "first", "other"
	everyRouter(t, c, func(t *testing.T, w world) {
		p := start(t, w.node)
		secret := func(password string) []bgp.Peer {
			peers := []bgp.Peer{peer("four", router4, "198.19.0.1/32"), peer("six", router6, "fd98:19::2/128")}
			peers[four].Password, peers[six].Password = password, "other"
			return peers
		}
		p.sync(secret("first")...)
		within(t, "established with the passwords", p.established(2))
		changed := plain()
		changed.Neighbors[four].Password, changed.Neighbors[six].Password = "second", "other"
		w.Change(t, changed)
		p.sync(secret("second")...)
		within(t, "established with the new password", p.established(2))
		if st := p.status(); st[six].Flaps != 0 {
			t.Errorf("the other session flapped: %+v", st[six])
		}
		p.sync(secret("wrong")...)
		within(t, "down with a reason", func() bool {
			st := p.status()[four]
			return !st.Established && strings.Contains(st.LastError, "connect")
		})
		if st := p.status(); !st[six].Established || st[six].Flaps != 0 {
			t.Errorf("the other session did not stay: %+v", st[six])
		}
	})
}

// TestRetreat: on the way out the paths get GRACEFUL_SHUTDOWN, are withdrawn,
// and the sessions are closed with a Cease.
func TestRetreat(t *testing.T) {
	shutdown := map[string]string{"FRR": "graceful-shutdown", "BIRD": "(65535,0)"}
	cease := map[string]string{"FRR": "Cease", "BIRD": "Received: "}
	everyRouter(t, plain(), func(t *testing.T, w world) {
		p := start(t, w.node)
		peers := []bgp.Peer{peer("four", router4, "198.19.0.1/32"), peer("six", router6, "fd98:19::2/128")}
		p.sync(peers...)
		within(t, "the routes are there", w.has(t, "198.19.0.1", "fd98:19::2"))
		for i := range peers {
			peers[i].Paths[0].Communities = []uint32{bgp.GracefulShutdown}
		}
		p.sync(peers...)
		within(t, "the routes have the community", func() bool {
			return strings.Contains(w.Path(t, "198.19.0.1/32"), shutdown[w.kind]) && strings.Contains(w.Path(t, "fd98:19::2/128"), shutdown[w.kind])
		})
		p.do(order{Do: "close"})
		within(t, "the routes are gone", func() bool { return routes(t, w.router) == "" })
		for _, addr := range []string{node4, node6} {
			if out := w.Peer(t, addr); !strings.Contains(out, cease[w.kind]) {
				t.Errorf("the router was not told:\n%s", out)
			}
		}
	})
}

// TestUnwanted: a router that expects another AS, and one that does not know the
// node, keep the session down, and the status says what it looks like.
func TestUnwanted(t *testing.T) {
	c := plain()
	c.Neighbors = c.Neighbors[:1]
	c.Neighbors[0].ASN = nodeASN + 9
	everyRouter(t, c, func(t *testing.T, w world) {
		p := start(t, w.node)
		p.sync(two(func(*bgp.Peer) {})...)
		within(t, "both say why", func() bool {
			st := p.status()
			return strings.Contains(st[0].LastError, "OPEN") && strings.Contains(st[1].LastError, "connect")
		})
		for _, st := range p.status() {
			t.Logf("%s: %s", st.Name, st.LastError)
		}
	})
}
