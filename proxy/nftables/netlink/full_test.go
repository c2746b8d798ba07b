package netlink

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// TestConnectionTrackingFull fills the node's table of connections to the machine's
// limit, with flows that the kernel may not evict. Connections that are open go on, new
// ones wait, the engine still takes changes, and all is well when there is room again.
func TestConnectionTrackingFull(t *testing.T) {
	l := newLab(t)
	a := addressesOf(snapshot.IPv4)
	vip := a.front(proxy.VIP, "tcp", a.podA)
	if _, err := l.engine.Sync(t.Context(), a.table(vip)); err != nil {
		t.Fatal(err)
	}
	kept, err := l.client.dial("tcp", a.address(vip), netip.AddrPort{}, patient)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	if _, err := say(kept, patient); err != nil {
		t.Fatal(err)
	}

	fill(t, l.node)
	if answer, err := say(kept, patient); err != nil || !strings.HasPrefix(answer, "podA") {
		t.Errorf("an open connection: %q, %v", answer, err)
	}
	l.client.silent(t, "tcp", a.address(vip))
	if _, err := l.engine.Sync(t.Context(), a.table(a.front(proxy.VIP, "tcp", a.podB))); err != nil {
		t.Errorf("a change while it is full: %v", err)
	}

	if _, err := l.node.Try("sh", "-c", "conntrack -D -s 198.18.250.0 >/dev/null"); err != nil {
		t.Fatal(err)
	}
	l.client.wants(t, "tcp", a.address(vip), "podB "+a.nodeOnB.String())
	if answer, err := say(kept, patient); err != nil || !strings.HasPrefix(answer, "podA") {
		t.Errorf("the open connection afterwards: %q, %v", answer, err)
	}
}

// fill adds flows, each seen in both directions, until the kernel takes no more: to
// 198.18.251.1, 60,000 from each of 198.18.250.0 and the addresses behind it.
func fill(t *testing.T, s space) {
	t.Helper()
	const each = 60_000
	var limit int
	data, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_max")
	if err == nil {
		_, err = fmt.Sscan(string(data), &limit)
	}
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "flows"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w := bufio.NewWriter(file)
	from := netip.MustParseAddr("198.18.250.0")
	for i := range limit {
		if i > 0 && i%each == 0 {
			from = from.Next()
		}
		fmt.Fprintf(w, "-I -p udp -s %s -d 198.18.251.1 --sport %d --dport 9 -t 600 -u SEEN_REPLY,ASSURED\n", from, 1+i%each)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if out, err := s.Try("conntrack", "-R", file.Name()); err == nil {
		t.Fatalf("the table takes more than %d flows: %s", limit, out)
	}
	if count := strings.TrimSpace(s.Run(t, "conntrack", "-C")); count != fmt.Sprint(limit) {
		t.Fatalf("%s flows, want %d", count, limit)
	}
}
