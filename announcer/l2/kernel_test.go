package l2

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// tap is a client's link: it sends whole frames and sees what the node sends.
type tap struct {
	conn *packet.Conn
	node net.HardwareAddr
	mac  net.HardwareAddr
}

func (l lan) tap(t *testing.T) *tap {
	t.Helper()
	link, err := l.client.Netlink(t).LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	at := link.Attrs()
	out := &tap{mac: at.HardwareAddr}
	out.node, _ = net.ParseMAC(l.mac)
	l.client.Do(t, func() (err error) {
		out.conn, err = packet.Listen(&net.Interface{Index: at.Index, Name: at.Name, HardwareAddr: at.HardwareAddr}, packet.Raw, unix.ETH_P_ALL, nil)
		return err
	})
	t.Cleanup(func() { _ = out.conn.Close() })
	return out
}

func (p *tap) send(t *testing.T, frame []byte, err error) {
	t.Helper()
	if err == nil {
		_, err = p.conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// next waits for a frame of the node that matches; every other one goes by.
func (p *tap) next(t *testing.T, what string, match func(frame []byte) bool) []byte {
	t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, longestFrame)
	for {
		n, _, err := p.conn.ReadFrom(buf)
		if err != nil {
			t.Fatalf("waiting for %s: %v", what, err)
		}
		if f := buf[:n]; n > etherLen && bytes.Equal(f[6:12], p.node) && match(f) {
			return bytes.Clone(f)
		}
	}
}

// to returns a frame with another destination.
func to(mac net.HardwareAddr, frame []byte, err error) ([]byte, error) {
	if err == nil {
		copy(frame, mac)
	}
	return frame, err
}

// announcing 48: an ARP request for an announced address is answered with the
// link's MAC, whether it was broadcast or not; an ARP reply, a request to
// another MAC and one for another address are not.
func TestKernelAnswersARP(t *testing.T) {
	l := newLAN(t)
	l.sync(t, l.holder(), on4)
	p := l.tap(t)
	asker := netip.MustParseAddr("198.18.0.100")
	ask := func(op arp.Operation, dst net.HardwareAddr, vip netip.Addr) netip.Addr {
		asker = asker.Next()
		f, err := arpFrame(op, p.mac, asker, make(net.HardwareAddr, 6), vip)
		f, err = to(dst, f, err)
		p.send(t, f, err)
		return asker
	}
	ask(arp.OperationReply, ethernet.Broadcast, vip4)
	ask(arp.OperationRequest, mac9, vip4)
	ask(arp.OperationRequest, ethernet.Broadcast, vip4.Next())
	for _, want := range []netip.Addr{ask(arp.OperationRequest, ethernet.Broadcast, vip4), ask(arp.OperationRequest, p.node, vip4)} {
		var got arp.Packet
		p.next(t, "an ARP reply", func(f []byte) bool {
			return got.UnmarshalBinary(f[etherLen:]) == nil && got.Operation == arp.OperationReply && got.TargetIP.Compare(asker) <= 0
		})
		if got.TargetIP != want || got.SenderIP != vip4 || !bytes.Equal(got.SenderHardwareAddr, p.node) {
			t.Errorf("%s asked, and %s was told that %s is at %s", want, got.TargetIP, got.SenderIP, got.SenderHardwareAddr)
		}
	}
}

// The same of neighbour solicitations, and the node joins the group to which
// they go.
func TestKernelAnswersNDP(t *testing.T) {
	l := newLAN(t)
	l.sync(t, l.holder(), on6)
	nstest.Eventually(t, "the kernel joins the solicited-node group", func() bool { // by a worker of its own
		return strings.Contains(l.node.Run(t, "ip", "-6", "maddr", "show", "dev", "eth0"), "ff02::1:ff00:200")
	})
	p := l.tap(t)
	asker := netip.MustParseAddr("fd98:18::100")
	ask := func(dst net.HardwareAddr, vip netip.Addr, m func(netip.Addr) ndp.Message) netip.Addr {
		asker = asker.Next()
		group, _ := ndp.SolicitedNodeMulticast(vip)
		f, err := ndpFrame(p.mac, asker, group, m(vip))
		if dst != nil {
			f, err = to(dst, f, err)
		}
		p.send(t, f, err)
		return asker
	}
	solicit := func(vip netip.Addr) ndp.Message {
		return &ndp.NeighborSolicitation{TargetAddress: vip, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: p.mac}}}
	}
	ask(nil, vip6, func(vip netip.Addr) ndp.Message { return &ndp.NeighborAdvertisement{TargetAddress: vip} })
	ask(mac9, vip6, solicit)
	ask(nil, vip6.Next(), solicit)
	for _, want := range []netip.Addr{ask(nil, vip6, solicit), ask(p.node, vip6, solicit)} {
		f := p.next(t, "an advertisement", func(f []byte) bool {
			return len(f) > icmpType && f[ip6Next] == protoICMPv6 && f[icmpType] == icmpAdvert
		})
		asked := netip.AddrFrom16([16]byte(f[etherLen+24:]))
		if a, _ := parse(f); asked != want || a.addr != vip6 || a.mac != l.mac {
			t.Errorf("%s asked, and %s was told that %s is at %s", want, asked, a.addr, a.mac)
		}
	}
}

// A take-over is said at once and three more times over two seconds.
func TestTakeOverIsSaidFourTimes(t *testing.T) {
	for _, c := range []announcer.Claim{on4, on6} {
		t.Run(c.Addr.String(), func(t *testing.T) {
			l := newLAN(t)
			ls := l.holder()
			p := l.tap(t)
			l.run(t, ls)
			l.sync(t, ls, c)
			began, frames := time.Now(), burstTimes
			if c.Addr.Is4() {
				frames *= 2 // a request and a reply each time
			}
			for range frames {
				p.next(t, "an announcement", func(f []byte) bool {
					a, ok := parse(f)
					return ok && a == assertion{addr: c.Addr, mac: l.mac} && f[0]&1 == 1
				})
			}
			if took := time.Since(began); took < 1900*time.Millisecond || took > 20*time.Second {
				t.Errorf("it was said over %v", took)
			}
			nstest.Eventually(t, "no more is due", func() bool {
				ls.mu.Lock()
				defer ls.mu.Unlock()
				return len(ls.bursts) == 0
			})
			if n := testutil.ToFloat64(ls.Metrics.sent.WithLabelValues(protocol(c.Addr), "announcement")); n != float64(frames) {
				t.Errorf("%v frames were sent, want %d", n, frames)
			}
		})
	}
}

// TestRefresh: what is held is announced again and again if that is asked for, also what an
// agent before adopted, until it is not asked for any more.
func TestRefresh(t *testing.T) {
	l := newLAN(t)
	l.sync(t, l.holder(), on4, on6) // an agent that ends
	ls := l.holder()
	p := l.tap(t)
	l.run(t, ls)
	const every = 50 * time.Millisecond
	if _, err := ls.Sync(announcer.Set{Claims: []announcer.Claim{on4, on6}, Refresh: map[netip.Addr]time.Duration{vip4: every, vip6: every}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []announcer.Claim{on4, on6, on4, on6, on4, on6} {
		p.next(t, "an announcement of "+c.Addr.String(), func(f []byte) bool {
			a, ok := parse(f)
			return ok && a == assertion{addr: c.Addr, mac: l.mac} && f[0]&1 == 1
		})
	}
	l.sync(t, ls, on4, on6)
	nstest.Eventually(t, "no more is due", func() bool {
		ls.mu.Lock()
		defer ls.mu.Unlock()
		return len(ls.bursts) == 0
	})
}

// A lease that nobody renews ends by itself, with what it needed of the link.
func TestLeaseEnds(t *testing.T) {
	l := newLAN(t)
	ls := l.holder()
	ls.answers.lifetime = 2 * time.Second
	l.sync(t, ls, on4, on6)
	nstest.Eventually(t, "nobody answers", func() bool { return l.asks(t, vip4) == "" && l.asks(t, vip6) == "" })
	nstest.Eventually(t, "the link left the group", func() bool {
		return !strings.Contains(l.node.Run(t, "ip", "-6", "maddr", "show", "dev", "eth0"), "ff02::1:ff00:200")
	})
	next := l.holder()
	if held, err := next.Adopt(); err != nil || len(held) > 0 {
		t.Errorf("adopted %v, %v", held, err)
	}
	l.sync(t, next, on4)
	if mac := l.asks(t, vip6); mac != "" {
		t.Errorf("what ended is answered for again, with %s", mac)
	}
}

// unprobed is both addresses, which were never probed.
func (l lan) unprobed() announcer.Set {
	return announcer.Set{
		Claims: []announcer.Claim{on4, on6}, Records: map[netip.Addr]announcer.Record{vip4: {UID: "u"}, vip6: {UID: "u"}}, Ours: map[string]bool{l.mac: true},
	}
}

// running is Leases that run.
func (l lan) running(t *testing.T) *Leases {
	t.Helper()
	ls := l.holder()
	l.run(t, ls)
	return ls
}

// An address that a foreign host has is found out before it is announced, and
// announced once the host is gone.
func TestProbeFindsForeignHost(t *testing.T) {
	l := newLAN(t)
	l.client.Run(t, "ip", "addr", "add", vip4.String()+"/24", "dev", "eth0")
	l.client.Run(t, "ip", "addr", "add", vip6.String()+"/64", "dev", "eth0", "nodad")
	ls, theirs := l.running(t), l.tap(t).mac.String()
	nstest.Eventually(t, "both conflicts are found", func() bool {
		if held, err := ls.Sync(l.unprobed()); err != nil || len(held) > 0 {
			t.Fatalf("holds %v, %v", held, err)
		}
		found := ls.Findings()
		return len(found) == 2 && found[0].Conflict == theirs && found[1].Conflict == theirs
	})
	probes := testutil.ToFloat64(ls.Metrics.sent.WithLabelValues("arp", "probe"))
	asked := announcer.Set{ // it is recorded, and asked again
		Records:  map[netip.Addr]announcer.Record{vip4: {UID: "u", Probed: true, Conflict: theirs}, vip6: {UID: "u", Probed: true, Conflict: theirs}},
		Ours:     map[string]bool{l.mac: true},
		Disputed: []announcer.Claim{on4, on6},
	}
	ls.mu.Lock()
	for _, c := range ls.detector.contests {
		c.due = time.Now()
	}
	ls.mu.Unlock()
	nstest.Eventually(t, "it is asked again", func() bool {
		if held, err := ls.Sync(asked); err != nil || len(held) > 0 {
			t.Fatalf("holds %v, %v", held, err)
		}
		return testutil.ToFloat64(ls.Metrics.sent.WithLabelValues("arp", "probe")) > probes
	})
	l.client.Run(t, "ip", "addr", "del", vip4.String()+"/24", "dev", "eth0")
	l.client.Run(t, "ip", "addr", "del", vip6.String()+"/64", "dev", "eth0")
	ls.mu.Lock()
	for _, c := range ls.detector.contests {
		c.due = time.Now() // 45 s are over
	}
	ls.mu.Unlock()
	nstest.Eventually(t, "both are announced", func() bool {
		held, err := ls.Sync(l.unprobed())
		return err == nil && len(held) == 2
	})
	if n := testutil.ToFloat64(ls.Metrics.conflicts); n != 2 {
		t.Errorf("%v conflicts are counted", n)
	}
}

// What another node's kernel still answers for, whose agent is gone, is taken over
// when it does not any more, and no moment before.
func TestTakeOverWaitsForTheLease(t *testing.T) {
	l := newLAN(t)
	frozen, ls := New(l.client.Netlink(t), int(l.client.Handle), slog.New(slog.DiscardHandler)), l.holder()
	frozen.answers.lifetime = 3 * time.Second
	l.sync(t, frozen, on4, on6)
	l.run(t, ls)
	left := announcer.Set{Claims: []announcer.Claim{on4, on6}, Orphaned: map[netip.Addr]int{vip4: 0, vip6: 0}}
	nstest.Eventually(t, "both are taken over", func() bool {
		held, err := ls.Sync(left)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := frozen.answers.read()
		if err != nil {
			t.Fatal(err)
		}
		if len(held) > 0 && len(theirs.ports) > 0 {
			t.Errorf("%v are held by two", held)
		}
		return len(held) == 2
	})
}

// An address that a frozen agent held has an answer again soon after its lease ended.
func TestTakeOverSoonAfterTheLease(t *testing.T) {
	l := newLAN(t)
	frozen, ls := New(l.client.Netlink(t), int(l.client.Handle), slog.New(slog.DiscardHandler)), l.holder()
	frozen.answers.lifetime = 2 * time.Second
	l.sync(t, frozen, on4)
	again := make(chan struct{}, 1)
	ls.Changed = func() {
		select {
		case again <- struct{}{}:
		default:
		}
	}
	l.run(t, ls)
	left := announcer.Set{Claims: []announcer.Claim{on4}, Orphaned: map[netip.Addr]int{vip4: 0}}
	if held, err := ls.Sync(left); err != nil || len(held) > 0 {
		t.Fatalf("holds %v, %v", held, err)
	}
	var ended time.Time
	for held := 0; held == 0; {
		select {
		case <-again:
			now, err := ls.Sync(left)
			if err != nil {
				t.Fatal(err)
			}
			held = len(now)
			if held > 0 && ended.IsZero() { // sooner than this test looks
				ended = time.Now()
			}
		case <-time.After(2 * time.Millisecond):
			if theirs, err := frozen.answers.read(); err == nil && len(theirs.ports) == 0 && ended.IsZero() {
				ended = time.Now()
			}
		}
	}
	took := time.Since(ended)
	t.Logf("taken over %v after the lease ended", took.Round(time.Millisecond))
	if took > time.Minute {
		t.Error("that is not soon")
	}
}

// A process that stood still since it decided leaves the kernel alone.
func TestStandstillHoldsNothingAnew(t *testing.T) {
	l := newLAN(t)
	ls := l.holder()
	ls.Sure = func() bool { return false }
	if held, err := ls.Sync(announcer.Set{Claims: []announcer.Claim{on4}}); err == nil || len(held) > 0 {
		t.Errorf("holds %v, %v", held, err)
	}
	ls.Sure = func() bool { return true }
	l.sync(t, ls, on4)
	ls.Sure = func() bool { return false }
	l.sync(t, ls) // to give up is always right
}

// Without a foreign host the probes are seen on the link, and take less than a
// second.
func TestProbesThenAnnounces(t *testing.T) {
	l := newLAN(t)
	p, ls := l.tap(t), l.running(t)
	began := time.Now()
	if held, err := ls.Sync(l.unprobed()); err != nil || len(held) > 0 {
		t.Fatalf("holds %v, %v before it has probed", held, err)
	}
	probes := map[netip.Addr]int{}
	for probes[vip4] < Probes || probes[vip6] < Probes {
		a, _ := parse(p.next(t, "a probe", func(f []byte) bool { a, ok := parse(f); return ok && a.probe }))
		probes[a.addr]++
	}
	nstest.Eventually(t, "both are announced", func() bool {
		held, err := ls.Sync(l.unprobed())
		return err == nil && len(held) == 2
	})
	if took := time.Since(began); took < 600*time.Millisecond || took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// A foreign claim to an announced address is defended at once.
func TestForeignClaimIsDefended(t *testing.T) {
	l := newLAN(t)
	p, ls := l.tap(t), l.holder()
	l.run(t, ls)
	l.sync(t, ls, on4, on6)
	nstest.Eventually(t, "it has been announced", func() bool {
		ls.mu.Lock()
		defer ls.mu.Unlock()
		return len(ls.bursts) == 0
	})
	for _, vip := range []netip.Addr{vip4, vip6} {
		before := testutil.ToFloat64(ls.Metrics.sent.WithLabelValues(protocol(vip), "announcement"))
		frames, err := gratuitousFrames(p.mac, vip)
		for range 5 {
			p.send(t, frames[0], err)
		}
		nstest.Eventually(t, vip.String()+" is defended", func() bool {
			return testutil.ToFloat64(ls.Metrics.sent.WithLabelValues(protocol(vip), "announcement")) > before
		})
		p.next(t, "the defence", func(f []byte) bool { a, ok := parse(f); return ok && a == assertion{addr: vip, mac: l.mac} })
	}
	nstest.Eventually(t, "both are counted once", func() bool { return testutil.ToFloat64(ls.Metrics.defences) == 2 })
}

// Another node of ours that announces what this one owns does not have the last word.
func TestOwnerAnnouncesLast(t *testing.T) {
	l := newLAN(t)
	p, ls := l.tap(t), l.running(t)
	set := announcer.Set{Claims: []announcer.Claim{on4, on6}, Ours: map[string]bool{l.mac: true, p.mac.String(): true}}
	if _, err := ls.Sync(set); err != nil {
		t.Fatal(err)
	}
	nstest.Eventually(t, "it has been announced", func() bool {
		ls.mu.Lock()
		defer ls.mu.Unlock()
		return len(ls.bursts) == 0
	})
	for _, vip := range []netip.Addr{vip4, vip6} {
		said := func() float64 {
			return testutil.ToFloat64(ls.Metrics.sent.WithLabelValues(protocol(vip), "announcement"))
		}
		before := said()
		frames, err := gratuitousFrames(p.mac, vip)
		p.send(t, frames[0], err)
		nstest.Eventually(t, vip.String()+" is announced again", func() bool { return said() > before })
	}
}

// A frame of a VLAN that the node does not have says nothing of its own links. The kernel
// hands it to packet sockets all the same, as one for another host.
func TestClaimInAForeignVLANIsNone(t *testing.T) {
	l := newLAN(t)
	other := announcer.Claim{Addr: vip4.Next(), Link: "eth0"}
	ls := l.running(t)
	set := announcer.Set{Claims: []announcer.Claim{on4, other}, Records: map[netip.Addr]announcer.Record{
		on4.Addr: {UID: "one", Probed: true}, other.Addr: {UID: "two", Probed: true},
	}}
	if _, err := ls.Sync(set); err != nil {
		t.Fatal(err)
	}
	p := l.tap(t)
	claim := func(vip netip.Addr) []byte {
		f, err := arpFrame(arp.OperationReply, mac9, vip, ethernet.Broadcast, vip)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	claims := func() float64 { return testutil.ToFloat64(ls.Metrics.frames.WithLabelValues("claim")) }
	nstest.Eventually(t, "the node listens", func() bool {
		p.send(t, claim(other.Addr), nil)
		return claims() > 0
	})
	plain := claim(vip4)
	tagged := slices.Concat(plain[:12], []byte{0x81, 0, 0, 7}, plain[12:])
	for range 3 {
		p.send(t, tagged, nil)
	}
	was := claims()
	p.send(t, claim(other.Addr), nil) // what comes before it has been heard when this is
	nstest.Eventually(t, "the node hears on", func() bool { return claims() > was })
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if c := ls.detector.contests[vip4]; c == nil || !c.contested.IsZero() {
		t.Error("a frame of VLAN 7 counts as a claim on eth0")
	}
}

// What was heard while the process stood still is dropped, and what was to be
// announced waits until somebody confirms that it is still this node's.
func TestFreezeDropsWhatWasHeard(t *testing.T) {
	l := newLAN(t)
	p, ls := l.tap(t), l.holder()
	l.sync(t, ls, on4)
	r := &runner{Leases: ls, stations: map[string]*station{}, failed: map[string]string{}, last: time.Now()}
	defer r.close()
	sent := func() float64 { return testutil.ToFloat64(ls.Metrics.sent.WithLabelValues("arp", "announcement")) }
	l.node.Do(t, func() error { r.step(time.Now()); return nil })
	began := sent()
	frames, err := gratuitousFrames(p.mac, vip4)
	p.send(t, frames[0], err)
	r.step(time.Now().Add(30 * time.Second))
	if got := sent(); got != began || testutil.ToFloat64(ls.Metrics.defences) != 0 {
		t.Errorf("%v frames were sent right after waking up, %v before", got, began)
	}
	if n := testutil.ToFloat64(ls.Metrics.frames.WithLabelValues("late")); n != 1 {
		t.Errorf("%v late frames, want 1", n)
	}
	l.sync(t, ls, on4)
	r.step(time.Now().Add(30*time.Second + 50*time.Millisecond))
	if got := sent(); got != began+2 {
		t.Errorf("%v frames were sent once the claim was confirmed, want %v", got, began+2)
	}
}
