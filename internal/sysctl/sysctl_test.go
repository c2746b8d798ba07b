package sysctl_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/sysctl"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

func addrs(text string) (out []netip.Addr) {
	for _, w := range strings.Fields(text) {
		out = append(out, netip.MustParseAddr(w))
	}
	return out
}

func TestNeeded(t *testing.T) {
	const (
		v4, v6  = "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"
		bridge4 = "net.bridge.bridge-nf-call-iptables=1"
		bridge6 = "net.bridge.bridge-nf-call-ip6tables=1"
	)
	tests := []struct {
		name string
		in   sysctl.Node
		want string
	}{
		{"both families", sysctl.Node{Forwards: true, Addrs: addrs("192.0.2.1 2001:db8::1")}, v4 + " " + v6},
		{"IPv4", sysctl.Node{Forwards: true, Addrs: addrs("192.0.2.1 ::1 fe80::1")}, v4},
		{"IPv6", sysctl.Node{Forwards: true, Addrs: addrs("127.0.0.1 2001:db8::1")}, v6},
		{"bridged pods", sysctl.Node{Forwards: true, Bridged: true, Addrs: addrs("192.0.2.1 2001:db8::1")}, bridge6 + " " + bridge4 + " " + v4 + " " + v6},
		{"connections, two processors", sysctl.Node{Forwards: true, CPUs: 2}, tracked("32768", "131072")},
		{"connections, 32 processors", sysctl.Node{Forwards: true, CPUs: 32}, tracked("262144", "1048576")},
		{"connections, another proxy", sysctl.Node{CPUs: 32}, ""},
		{"another proxy", sysctl.Node{Bridged: true, Addrs: addrs("192.0.2.1")}, ""},
		{"announcing", sysctl.Node{Addrs: addrs("192.0.2.1"), Announce: []string{"eth1.100", "eth0"}},
			"net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0 net.ipv4.conf.eth1/100.send_redirects=0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, s := range sysctl.Needed(tt.in) {
				got = append(got, s.Name+"="+s.Want)
			}
			if text := strings.Join(got, " "); text != tt.want {
				t.Errorf("got %s\nwant %s", text, tt.want)
			}
		})
	}
}

func tracked(buckets, most string) string {
	const prefix = "net.netfilter.nf_conntrack_"
	return prefix + "buckets=" + buckets + " " + prefix + "max=" + most + " " + prefix + "tcp_timeout_close_wait=3600 " + prefix + "tcp_timeout_established=86400"
}

func file(t *testing.T, dir, name, value string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(value+"\n"), mode); err != nil {
		t.Fatal(err)
	}
}

// What differs is set, what is right is left, what is not there is told.
func TestApply(t *testing.T) {
	dir := t.TempDir()
	file(t, dir, "net/ipv4/ip_forward", "0", 0o644)
	file(t, dir, "net/ipv4/conf/eth0.100/send_redirects", "0", 0o644)
	set, wrong := sysctl.Dir(dir).Apply([]sysctl.Setting{
		{Name: "net.ipv4.ip_forward", Want: "1"}, {Name: "net.ipv4.conf.eth0/100.send_redirects", Want: "0"},
		{Name: "net.bridge.bridge-nf-call-iptables", Want: "1", Why: "because"},
	})
	if len(set) != 1 || set[0].Name != "net.ipv4.ip_forward" || set[0].Had != "0" {
		t.Errorf("set %+v", set)
	}
	want := "net.bridge.bridge-nf-call-iptables is unknown and must be 1: because (no such file or directory)"
	if len(wrong) != 1 || wrong[0].String() != want {
		t.Errorf("wrong %v\nwant %s", wrong, want)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "net/ipv4/ip_forward")); string(b) != "1" {
		t.Errorf("ip_forward is %q", b)
	}
}

// What is to be at least something is never made lower, and told where it cannot be set.
func TestApplyLeast(t *testing.T) {
	dir := t.TempDir()
	const sub = "net/netfilter/nf_conntrack_"
	file(t, dir, sub+"max", "65536", 0o644)
	file(t, dir, sub+"buckets", "65536", 0o644)
	file(t, dir, sub+"tcp_timeout_established", "432000", 0o644)
	if err := os.MkdirAll(filepath.Join(dir, sub+"tcp_timeout_close_wait"), 0o755); err != nil { // cannot be read or set
		t.Fatal(err)
	}
	set, wrong := sysctl.Dir(dir).Apply(sysctl.Needed(sysctl.Node{Forwards: true, CPUs: 2}))
	if len(set) != 1 || set[0].Name != "net.netfilter.nf_conntrack_max" || set[0].Had != "65536" {
		t.Errorf("set %+v", set)
	}
	want := "net.netfilter.nf_conntrack_tcp_timeout_close_wait is unknown and must be 3600 or more: "
	if len(wrong) != 1 || !strings.HasPrefix(wrong[0].String(), want) {
		t.Errorf("wrong %v", wrong)
	}
	for name, want := range map[string]string{"max": "131072", "buckets": "65536\n", "tcp_timeout_established": "432000\n"} {
		if b, err := os.ReadFile(filepath.Join(dir, sub+name)); string(b) != want {
			t.Errorf("%s is %q, %v", name, b, err)
		}
	}
}

// A setting that would cost the node its routes is told and not set.
func TestLeave(t *testing.T) {
	dir := t.TempDir()
	file(t, dir, "net/ipv6/conf/all/forwarding", "0", 0o644)
	for _, learns := range []bool{true, false} {
		set, wrong := sysctl.Dir(dir).Apply(sysctl.Needed(sysctl.Node{Forwards: true, Addrs: addrs("2001:db8::1"), Learns: learns}))
		if (len(wrong) == 1) != learns || (len(set) == 1) == learns {
			t.Errorf("learns=%v: set %v, wrong %v", learns, set, wrong)
		}
	}
}

// The kernel takes the values, in a namespace of its own.
func TestKernelTakesThem(t *testing.T) {
	node := nstest.New(t, "node")
	node.Run(t, "ip", "link", "add", "eth0.100", "type", "veth", "peer", "name", "p")
	need := sysctl.Needed(sysctl.Node{Forwards: true, Addrs: addrs("192.0.2.1 2001:db8::1"), Announce: []string{"eth0.100"}})
	node.Do(t, func() error {
		if set, wrong := sysctl.Dir("/proc/sys").Apply(need); len(set) == 0 || len(wrong) != 0 {
			t.Errorf("set %v, wrong %v", set, wrong)
		}
		if set, wrong := sysctl.Dir("/proc/sys").Apply(need); len(set) != 0 || len(wrong) != 0 {
			t.Errorf("again: set %v, wrong %v", set, wrong)
		}
		return nil
	})
	if got := node.Run(t, "sysctl", "-n", "net.ipv4.ip_forward", "net.ipv4.conf.eth0/100.send_redirects"); got != "1\n0\n" {
		t.Errorf("got %q", got)
	}
}

// Of what cannot be set, only a value that the kernel shows says that it does not forward.
func TestUnforwarded(t *testing.T) {
	dir := t.TempDir()
	file(t, dir, "net/ipv6/conf/all/forwarding", "0", 0o644)
	_, wrong := sysctl.Dir(dir).Apply(sysctl.Needed(sysctl.Node{Forwards: true, Addrs: addrs("192.0.2.1 2001:db8::1"), Learns: true}))
	if got := sysctl.Unforwarded(wrong); len(wrong) != 2 || !slices.Equal(got, []snapshot.Family{snapshot.IPv6}) {
		t.Errorf("wrong %v, unforwarded %v", wrong, got)
	}
}

// A kernel that does not forward, and settings that are read-only.
func TestReadOnly(t *testing.T) {
	nstest.NeedRoot(t)
	need := sysctl.Needed(sysctl.Node{Forwards: true, Addrs: addrs("192.0.2.1 2001:db8::1")})
	var wrong []sysctl.Wrong
	err := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with its namespaces
		err <- readOnly(func() { _, wrong = sysctl.Dir("/proc/sys").Apply(need) })
	}()
	if err := <-err; err != nil {
		t.Fatal(err)
	}
	if got := sysctl.Unforwarded(wrong); !slices.Equal(got, []snapshot.Family{snapshot.IPv4, snapshot.IPv6}) {
		t.Errorf("wrong %v, unforwarded %v", wrong, got)
	}
	want := "net.ipv4.ip_forward is 0 and must be 1: without it the node drops packets to pods, and announces no IPv4 address (read-only file system)"
	if len(wrong) != 2 || wrong[0].String() != want {
		t.Errorf("wrong %v\nwant %s", wrong, want)
	}
}

// readOnly calls do in a namespace that does not forward, with a read-only /proc/sys.
func readOnly(do func()) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWNET); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for _, name := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte("0"), 0o644); err != nil { //nolint:gosec // the file is the kernel's
			return err
		}
	}
	if err := unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return err
	}
	do()
	return nil
}
