// Package nstest makes network namespaces for kernel tests.
package nstest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// NeedRoot skips a kernel test where it cannot run. REQUIRE_ROOT=1 makes that a
// failure.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("REQUIRE_ROOT") == "1" {
		t.Fatal("REQUIRE_ROOT=1, and this is not root")
	}
	t.Skip("needs root: network namespaces")
}

// BPFFS makes a bpf filesystem that is mounted nowhere, and returns its path. It lasts as long
// as the test.
func BPFFS(t testing.TB) string {
	t.Helper()
	NeedRoot(t)
	fd, err := unix.Fsopen("bpf", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.FsconfigCreate(fd); err != nil {
		t.Fatal(err)
	}
	mount, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(mount) })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), mount)
}

// EmulatedEnv is set to 1 where an emulator runs the tests, some 25 times slower.
const EmulatedEnv = "FAIRLEAD_EMULATED"

// Few returns n, or a tenth of it in an emulator: for tests of many objects.
func Few(n int) int {
	if os.Getenv(EmulatedEnv) == "1" {
		return n / 10
	}
	return n
}

// OwnClockEnv is set to 1 where a test may set the clock: in a virtual machine that runs
// nothing but tests.
const OwnClockEnv = "FAIRLEAD_OWN_CLOCK"

// LessEnv says what a virtual machine lacks that runs nothing but tests.
const LessEnv = "FAIRLEAD_LESS"

// NeedLess skips a test unless the machine lacks what it is about: "ipv6", or a module.
func NeedLess(t testing.TB, what string) {
	t.Helper()
	if os.Getenv(LessEnv) != what {
		t.Skipf("needs a kernel without it: make test WHAT=kernels LESS=%s RUN=TestLess", what)
	}
}

// NeedLink skips a test where the kernel has no links of a kind, such as "vlan". In a virtual
// machine that runs nothing but tests, that is a failure: its kernels have all kinds.
func NeedLink(t testing.TB, kind string) {
	t.Helper()
	s := New(t, "kind")
	args := map[string][]string{
		"vlan": {"link", "lo", "name", "needed", "type", "vlan", "id", "5"}, "vrf": {"name", "needed", "type", "vrf", "table", "77"},
	}[kind]
	if args == nil {
		args = []string{"name", "needed", "type", kind}
	}
	out, err := s.Try(append([]string{"ip", "link", "add"}, args...)...)
	switch {
	case err == nil || !strings.Contains(out, "Unknown device type"):
	case os.Getenv(OwnClockEnv) == "1":
		t.Fatalf("no links of the kind %s: %s", kind, out)
	default:
		t.Skipf("this kernel has no links of the kind %s: make test WHAT=kernels PKG=./internal/link runs it", kind)
	}
}

// JumpClock sets the machine's time of day forward, or back if by is negative. It skips the
// test where the machine has other things to do.
func JumpClock(t testing.TB, by time.Duration) {
	t.Helper()
	if os.Getenv(OwnClockEnv) != "1" {
		t.Skip("sets the clock: make test WHAT=kernels runs it, in a virtual machine")
	}
	to := unix.NsecToTimespec(time.Now().Add(by).UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &to); err != nil {
		t.Fatal(err)
	}
}

// Space is a network namespace that goes away with the test.
type Space struct {
	Handle netns.NsHandle
	Name   string
}

var made atomic.Int64

// New makes an empty network namespace with loopback up.
func New(t testing.TB, name string) Space {
	t.Helper()
	NeedRoot(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = here.Close() }()
	full := fmt.Sprintf("nstest-%d-%d-%s", os.Getpid(), made.Add(1), name)
	h, err := netns.NewNamed(full)
	if err != nil {
		t.Fatal(err)
	}
	if err := netns.Set(here); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = h.Close()
		_ = netns.DeleteNamed(full)
	})
	s := Space{h, full}
	s.Run(t, "ip", "link", "set", "lo", "up")
	return s
}

// Do runs f inside the namespace, on this goroutine.
func (s Space) Do(t testing.TB, f func() error) {
	t.Helper()
	if err := s.In(f); err != nil {
		t.Fatal(err)
	}
}

// In is Do for an f that may fail. Goroutines that f starts are outside.
func (s Space) In(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	if err != nil {
		return err
	}
	defer func() { _ = here.Close() }()
	if err := netns.Set(s.Handle); err != nil {
		return err
	}
	err = f()
	if back := netns.Set(here); back != nil {
		panic(back) // this thread is of no use to anyone
	}
	return err
}

// Run runs a program inside the namespace and returns what it printed.
func (s Space) Run(t testing.TB, args ...string) string {
	t.Helper()
	return s.Pipe(t, "", args...)
}

// Pipe is Run with standard input.
func (s Space) Pipe(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	out, err := s.exec(stdin, args)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// Try is Run for a program that may fail.
func (s Space) Try(args ...string) (string, error) { return s.exec("", args) }

func (s Space) exec(stdin string, args []string) (string, error) {
	cmd := exec.Command("ip", append([]string{"netns", "exec", s.Name}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Serve answers every TCP connection to an address in s, each on a goroutine of its own, and
// closes it afterwards. It ends with the test, and waits for the answers that have begun.
func (s Space) Serve(t testing.TB, at string, answer func(net.Conn)) {
	t.Helper()
	var l net.Listener
	s.Do(t, func() (err error) {
		l, err = net.Listen("tcp", at)
		return err
	})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				end := func() { _ = c.Close() }
				defer context.AfterFunc(t.Context(), end)() // an answer may wait for a client that waits for the end
				defer end()
				answer(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
}

// Netlink opens a route netlink handle of the namespace.
func (s Space) Netlink(t testing.TB) *netlink.Handle {
	t.Helper()
	h, err := netlink.NewHandleAt(s.Handle, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// Wire joins two namespaces by a veth pair called eth0 on both sides, up, with
// one address each ("198.18.0.1/24"), and returns their MAC addresses.
func Wire(t testing.TB, a, b Space, addrA, addrB string) (macA, macB net.HardwareAddr) {
	t.Helper()
	a.Run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b.Name)
	mac := func(s Space, addr string) net.HardwareAddr {
		s.Run(t, "sh", "-c", "[ ! -e /proc/sys/net/ipv6 ] || sysctl -qw net.ipv6.conf.eth0.accept_dad=0")
		s.Run(t, "ip", "addr", "add", addr, "dev", "eth0")
		s.Run(t, "ip", "link", "set", "eth0", "up")
		l, err := s.Netlink(t).LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		return l.Attrs().HardwareAddr
	}
	return mac(a, addrA), mac(b, addrB)
}

// Eventually waits until ok, a minute at most, and fails with what otherwise.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(20 * time.Millisecond) // between two looks at the kernel
	}
}
