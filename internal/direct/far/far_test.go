package far

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/direct"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// One answer is believed at once. That a way carries less is believed after three questions, and
// that it carries nothing after ten: the gossip says before that whether an agent died.
func TestJudge(t *testing.T) {
	target := &target{route: direct.Way{Link: 1, MTU: 1500}}
	for i, c := range []struct {
		best, times int
		mute        bool
		want        int
	}{
		{best: 0, times: 1, want: 0},
		{best: 1400, times: 1, want: 1400},
		{best: 1500, times: 1, want: 1500},
		{best: 1400, times: 2, want: 1500},
		{best: 1400, times: 1, want: 1400},
		{best: 0, times: 9, want: 1400},
		{best: 0, times: 1, want: 0},
		{best: 1400, times: 1, want: 1400},
		{best: 0, times: 9, want: 1400},
		{best: 1400, times: 1, want: 1400},
		{best: 0, times: 9, want: 1400},
		{best: 0, times: 20, mute: true, want: 1400},
		{best: 0, times: 9, want: 1400},
		{best: 0, times: 1, want: 0},
	} {
		for range c.times {
			target.asked, target.best, target.mute = map[uint64]int{}, c.best, c.mute
			target.judge(time.Now())
		}
		if w, ok := target.way(); w.MTU != c.want || ok != (c.want > 0) {
			t.Errorf("row %d: %d, not %d", i, w.MTU, c.want)
		}
	}
}

func TestSizes(t *testing.T) {
	for mtu, want := range map[int][]int{1500: {1500, 1400, 1308}, 1400: {1400, 1308}, 1308: {1308}, 1307: nil, 9000: {9000, 1400, 1308}} {
		if got := sizes(mtu, 28); !slices.Equal(got, want) {
			t.Errorf("%d: %v, not %v", mtu, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	b := message(came, 7, 100)
	if w, nonce, ok := parse(b); len(b) != 100 || w != came || nonce != 7 || !ok {
		t.Error(w, nonce, ok)
	}
	for n := range messageLength {
		if _, _, ok := parse(b[:n]); ok {
			t.Errorf("%d bytes are no message", n)
		}
	}
}

// A router between two nodes takes less than their links. The ways carry as much as it does. A node
// that does not know who asks does not answer, so no way leads to it.
func TestFar(t *testing.T) {
	nstest.NeedRoot(t)
	router := nstest.New(t, "router")
	router.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0")
	nodes := []*Far{}
	for i := 1; i <= 3; i++ {
		s := nstest.New(t, fmt.Sprintf("n%d", i))
		s.Pipe(t, fmt.Sprintf("link add name lan type veth peer name port%d netns %s\n", i, router.Name), "ip", "-batch", "-")
		mtu := 1500
		if i == 2 {
			mtu = 1400
		}
		router.Pipe(t, fmt.Sprintf("link set port%[1]d mtu %[2]d\naddr add 198.18.%[1]d.254/24 dev port%[1]d\naddr add fd98:%[1]d::fe/64 dev port%[1]d nodad\nlink set port%[1]d up\n", i, mtu), "ip", "-batch", "-")
		s.Pipe(t, fmt.Sprintf(`addr add 198.18.%[1]d.1/24 dev lan
addr add fd98:%[1]d::1/64 dev lan nodad
link set lan up
route add default via 198.18.%[1]d.254
route add default via fd98:%[1]d::fe
`, i), "ip", "-batch", "-")
		var links []snapshot.Link
		nstest.Eventually(t, "the link to be up", func() bool {
			s.Do(t, func() error {
				state, err := link.Read()
				links = state.Links
				return err
			})
			return len(links) == 1
		})
		f := New(slog.New(slog.NewTextHandler(t.Output(), nil)), func() {})
		t.Cleanup(f.Close)
		others := func(all ...int) (out []netip.Addr) {
			for _, j := range all {
				out = append(out, netip.AddrFrom4([4]byte{198, 18, byte(j), 1}), netip.MustParseAddr(fmt.Sprintf("fd98:%d::1", j)))
			}
			return out
		}
		targets, accept := map[netip.Addr]bool{}, others(1, 2, 3)
		for _, a := range accept {
			targets[a] = true
		}
		if i == 3 {
			accept = others(2)
		}
		s.Do(t, func() error { return f.Set(links, targets, accept) })
		if !f.Asking() {
			t.Errorf("n%d knows its ways before it has asked", i)
		}
		nodes = append(nodes, f)
	}
	nstest.Eventually(t, "the ways that there are", func() bool {
		a, b, c := nodes[0].Ways(), nodes[1].Ways(), nodes[2].Ways()
		return len(a) == 2 && len(b) == 4 && len(c) == 4
	})
	nstest.Eventually(t, "all to know that nobody else answers", func() bool {
		return !slices.ContainsFunc(nodes, (*Far).Asking)
	})
	for to, want := range map[string]int{"198.18.2.1": 1400, "fd98:2::1": 1400} {
		if w := nodes[0].Ways()[netip.MustParseAddr(to)]; w.MTU != want || w.From.Is6() != netip.MustParseAddr(to).Is6() {
			t.Errorf("to %s: %+v", to, w)
		}
	}
}
