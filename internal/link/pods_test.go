package link

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// TestStories asks which pods a node's links and routes show. A line of "links" is a
// name, a type, "elsewhere" if the other end is in another namespace, and addresses. A
// line of "routes" is as ip(8) prints it.
func TestStories(t *testing.T) {
	storytest.Each(t, func(t *testing.T, s *storytest.Story) {
		w := traces{routes: routes{gateways: map[int]bool{}}}
		for _, sec := range s.Sections {
			switch sec.Name {
			case "links":
				w.each(t, sec.Text, w.link)
			case "routes":
				w.each(t, sec.Text, w.route)
			case "pods":
				sec.Want(t, w.pods())
			default:
				t.Fatalf("no section %q", sec.Name)
			}
		}
	})
}

// traces are what a CNI left on a node.
type traces struct {
	links  []netlink.Link
	addrs  []netlink.Addr
	routes routes
}

func (w *traces) each(t *testing.T, text string, do func(words []string) error) {
	t.Helper()
	for line := range strings.Lines(text) {
		if err := do(strings.Fields(line)); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
}

func (w *traces) link(words []string) error {
	at := netlink.NewLinkAttrs()
	at.Name, at.Index = words[0], len(w.links)+1
	for _, word := range words[2:] {
		if word == "elsewhere" {
			at.NetNsID = 0
			continue
		}
		a, err := netlink.ParseAddr(word)
		if err != nil {
			return err
		}
		a.LinkIndex = at.Index
		w.addrs = append(w.addrs, *a)
	}
	w.links = append(w.links, &netlink.GenericLink{LinkAttrs: at, LinkType: words[1]})
	return nil
}

func (w *traces) route(words []string) error {
	types := map[string]int{"blackhole": unix.RTN_BLACKHOLE, "local": unix.RTN_LOCAL}
	r := netlink.Route{Type: unix.RTN_UNICAST}
	if typ, ok := types[words[0]]; ok {
		r.Type, words = typ, words[1:]
	}
	if words[0] != "default" {
		dst := words[0]
		if !strings.Contains(dst, "/") {
			dst += fmt.Sprintf("/%d", netip.MustParseAddr(dst).BitLen())
		}
		_, p, err := net.ParseCIDR(dst)
		if err != nil {
			return err
		}
		if v4 := p.IP.To4(); v4 != nil {
			p.IP = v4 // as the kernel has it
		}
		r.Dst = p
	}
	for i := 1; i+1 < len(words); i += 2 {
		switch value := words[i+1]; words[i] {
		case "dev":
			r.LinkIndex = w.index(value)
		case "via":
			r.Gw = net.ParseIP(value)
		case "nexthop":
			r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: w.index(value)})
		case "table":
		default:
			return fmt.Errorf("no word %q", words[i])
		}
	}
	w.routes.add(r)
	return nil
}

func (w *traces) index(name string) int {
	return 1 + slices.IndexFunc(w.links, func(l netlink.Link) bool { return l.Attrs().Name == name })
}

func (w *traces) pods() string {
	found, names := pods(w.links, w.addrs, w.routes)
	if len(found) == 0 {
		return "none\n"
	}
	var b strings.Builder
	for _, a := range found {
		fmt.Fprintln(&b, a)
	}
	return b.String() + "over " + strings.Join(names, " ") + "\n"
}

// calico connects a pod as Calico does: a link without an address, and a route.
func calico(t *testing.T, node, pod nstest.Space, link string, addrs ...string) {
	t.Helper()
	node.Run(t, "ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", pod.Name)
	node.Run(t, "ip", "link", "set", link, "up")
	for _, a := range addrs {
		node.Run(t, "ip", "route", "add", a, "dev", link, "scope", "link")
	}
}

// followed is a State that is read after each event, as the agent does.
type followed struct {
	mu    sync.Mutex
	state State
}

func follow(t *testing.T, node nstest.Space) *followed {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	f, wake := &followed{}, make(chan struct{}, 1)
	wg.Go(func() {
		node.Do(t, func() error {
			for ctx.Err() == nil {
				_ = Watch(ctx, func() { // lost events are read again
					select {
					case wake <- struct{}{}:
					default:
					}
				})
			}
			return nil
		})
	})
	wg.Go(func() {
		node.Do(t, func() error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case <-wake:
				}
				st, err := Read()
				if err != nil {
					wake <- struct{}{} // interrupted by a change
					continue
				}
				f.mu.Lock()
				f.state = st
				f.mu.Unlock()
			}
		})
	})
	return f
}

// sees waits until the pods are these, and returns how long that took.
func (f *followed) sees(t *testing.T, what string, want ...string) time.Duration {
	t.Helper()
	began := time.Now()
	for deadline := began.Add(time.Minute); ; time.Sleep(100 * time.Microsecond) {
		f.mu.Lock()
		got := fmt.Sprint(f.state.Pods)
		f.mu.Unlock()
		if got == fmt.Sprint(want) {
			return time.Since(began)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: the pods are %v, want %v", what, got, want)
		}
	}
}

// A pod is followed by its route: it comes, goes, moves behind a gateway, or its link
// vanishes, with which the kernel says nothing of the IPv4 route.
func TestPodsAreFollowed(t *testing.T) {
	node, pod, other := nstest.New(t, "node"), nstest.New(t, "pod"), nstest.New(t, "other")
	nstest.Wire(t, node, other, "198.18.0.1/24", "198.18.0.2/24")
	calico(t, node, pod, "cali1", "198.18.190.5", "fd98:190::5")
	f := follow(t, node)
	f.sees(t, "those that were there", "198.18.190.5", "fd98:190::5")
	second := nstest.New(t, "second")
	calico(t, node, second, "cali2", "198.18.190.6")
	t.Logf("a pod came: %v after its route", f.sees(t, "a pod came", "198.18.190.5", "198.18.190.6", "fd98:190::5"))
	node.Run(t, "ip", "route", "del", "198.18.190.5")
	f.sees(t, "a route went", "198.18.190.6", "fd98:190::5")
	node.Run(t, "ip", "link", "del", "cali1")
	f.sees(t, "a link went", "198.18.190.6")
	node.Run(t, "ip", "route", "replace", "198.18.190.6", "via", "198.18.0.2")
	f.sees(t, "another node has the address now")
}

// 10,000 routes of a VPN and of a router change nothing, while they come and after.
func TestForeignRoutesAreNotPods(t *testing.T) {
	node, pod, other := nstest.New(t, "node"), nstest.New(t, "pod"), nstest.New(t, "other")
	nstest.Wire(t, node, other, "198.18.0.1/24", "198.18.0.2/24")
	node.Run(t, "ip", "link", "add", "vpn0", "type", "bridge")
	node.Run(t, "ip", "link", "set", "vpn0", "up")
	calico(t, node, pod, "cali1", "198.18.190.5")
	f := follow(t, node)
	f.sees(t, "before", "198.18.190.5")
	foreign := func(verb string) {
		var b strings.Builder
		for i := range 10_000 {
			over := "dev vpn0 scope link"
			if i%2 == 1 {
				over = "via 198.18.0.2"
			}
			fmt.Fprintf(&b, "route %s 198.19.%d.%d %s\n", verb, i/250, i%250, over)
		}
		node.Pipe(t, b.String(), "ip", "-batch", "-")
	}
	foreign("add")
	began := time.Now()
	if st := read(t, node); fmt.Sprint(st.Pods) != "[198.18.190.5]" || !slices.Equal(st.PodLinks, []string{"cali1"}) {
		t.Errorf("the pods are %v over %v", st.Pods, st.PodLinks)
	}
	t.Logf("read with 10,000 routes in %v", time.Since(began))
	second := nstest.New(t, "second")
	calico(t, node, second, "cali2", "198.18.190.6")
	t.Logf("a pod came: %v after its route", f.sees(t, "a pod among them", "198.18.190.5", "198.18.190.6"))
	foreign("del")
	f.sees(t, "after", "198.18.190.5", "198.18.190.6")
}

// If the kernel's events are lost, Watch says so, and the next one has everything read.
func TestLostRouteEvents(t *testing.T) {
	node, pod := nstest.New(t, "node"), nstest.New(t, "pod")
	node.Run(t, "ip", "link", "add", "vpn0", "type", "bridge")
	node.Run(t, "ip", "link", "set", "vpn0", "up")
	calico(t, node, pod, "cali1")
	busy, free := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	var once sync.Once
	go func() {
		_ = node.In(func() error {
			ended <- Watch(t.Context(), func() {
				once.Do(func() { close(busy) })
				<-free // nobody takes events until then
			})
			return nil
		})
	}()
	<-busy
	var b strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&b, "route add 198.19.%d.%d dev vpn0 scope link\n", i/250, i%250)
	}
	node.Pipe(t, b.String(), "ip", "-batch", "-")
	node.Run(t, "ip", "route", "add", "198.18.190.5", "dev", "cali1", "scope", "link")
	close(free)
	select {
	case err := <-ended:
		if err == nil {
			t.Fatal("Watch ended without an error")
		}
	case <-time.After(time.Minute):
		t.Fatal("Watch did not say that events were lost")
	}
	follow(t, node).sees(t, "the pod whose event was lost", "198.18.190.5")
}
