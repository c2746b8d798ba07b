package agent

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
	nftables "github.com/fairlead/fairlead/proxy/nftables/netlink"
)

// another is a table as kube-proxy's nftables mode has it, as far as it meets
// ours: the same hooks at the same priorities.
const another = `table ip kube-proxy {
	chain nat-prerouting {
		type nat hook prerouting priority dstnat;
		ip daddr 10.96.0.1 tcp dport 80 dnat to 198.18.2.2:8081
	}
	chain filter-forward {
		type filter hook forward priority filter - 1;
		ct state new ip daddr 10.96.0.1 reject
	}
}`

// prober opens connections to a Service, one after the other.
type prober struct {
	mu     sync.Mutex
	seen   map[string]int // answers
	failed []error
}

func (p *prober) run(ctx context.Context, client nstest.Space, t *testing.T) {
	for ctx.Err() == nil {
		client.Do(t, func() error {
			conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(context.WithoutCancel(ctx), "tcp4", "10.96.0.1:80")
			var who []byte
			if err == nil {
				who, err = io.ReadAll(conn)
				conn.Close()
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if err != nil {
				p.failed = append(p.failed, err)
			} else {
				p.seen[string(who)]++
			}
			return nil
		})
	}
}

// more waits for another hundred answers, and returns from whom they were.
func (p *prober) more(t *testing.T) string {
	t.Helper()
	p.mu.Lock()
	p.seen = map[string]int{}
	p.mu.Unlock()
	var who []string
	nstest.Eventually(t, "a hundred more answers", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		total := 0
		for _, n := range p.seen {
			total += n
		}
		return total >= 100
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, n := range p.seen {
		if n > 1 { // one may have been on its way
			who = append(who, name)
		}
	}
	return strings.Join(who, " and ")
}

// serve answers every connection to a port of the pod with its name.
func serve(t *testing.T, pod nstest.Space, port, name string) {
	t.Helper()
	pod.Serve(t, ":"+port, func(c net.Conn) { _, _ = c.Write([]byte(name)) })
}

// From another proxy to fairlead and back, in the order that
// docs/migrate-kube-proxy.md gives: no new connection fails. Beside each other
// fairlead forwards, whatever came last.
func TestChangeOver(t *testing.T) {
	client, node, pod := nstest.New(t, "client"), nstest.New(t, "node"), nstest.New(t, "pod")
	for _, c := range []struct {
		space         nstest.Space
		link, at, via string
	}{{client, "c0", "198.18.1.2/24", "198.18.1.1"}, {pod, "p0", "198.18.2.2/24", "198.18.2.1"}} {
		node.Run(t, "ip", "link", "add", c.link, "type", "veth", "peer", "name", "eth0", "netns", c.space.Name)
		node.Run(t, "ip", "addr", "add", c.via+"/24", "dev", c.link)
		node.Run(t, "ip", "link", "set", c.link, "up")
		c.space.Run(t, "ip", "addr", "add", c.at, "dev", "eth0")
		c.space.Run(t, "ip", "link", "set", "eth0", "up")
		c.space.Run(t, "ip", "route", "add", "default", "via", c.via)
	}
	node.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	serve(t, pod, "8080", "fairlead")
	serve(t, pod, "8081", "another")

	ours := nftables.New(nftables.Options{Netns: int(node.Handle), Log: slog.New(slog.DiscardHandler)})
	defer ours.Close()
	table := &proxy.Table{Frontends: []*proxy.Frontend{{
		Key:     proxy.Key{Kind: proxy.ClusterIP, Family: snapshot.IPv4, Addr: netip.MustParseAddr("10.96.0.1"), Protocol: snapshot.TCP, Port: 80},
		Cluster: []netip.AddrPort{netip.MustParseAddrPort("198.18.2.2:8080")},
	}}}
	program := func() {
		if _, err := ours.Sync(t.Context(), table); err != nil {
			t.Error(err)
		}
	}
	start := func() { node.Pipe(t, another, "nft", "-f", "-") }
	stop := func() { node.Run(t, "nft", "delete", "table", "ip", "kube-proxy") }

	start()
	p := &prober{seen: map[string]int{}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { p.run(ctx, client, t) })
	defer func() { cancel(); wg.Wait() }()
	want := func(what, who string) {
		t.Helper()
		if got := p.more(t); got != who {
			t.Errorf("%s: %s answers, want %s", what, got, who)
		}
	}
	want("the other alone", "another")
	program()
	want("both, ours last", "fairlead")
	stop()
	want("ours alone", "fairlead")
	start()
	want("both, the other last", "fairlead")
	if err := ours.Cleanup(t.Context()); err != nil {
		t.Error(err)
	}
	want("the other alone again", "another")
	if p.failed != nil {
		t.Errorf("%d connections failed, the first: %v", len(p.failed), p.failed[0])
	}
}
