package nftables

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netns"
)

// needRoot skips a kernel test where it cannot run. REQUIRE_ROOT=1 makes that
// a failure.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("REQUIRE_ROOT") == "1" {
		t.Fatal("REQUIRE_ROOT=1, and this is not root")
	}
	t.Skip("needs root: network namespaces")
}

// space is a network namespace that goes away with the test.
type space struct {
	netns.NsHandle
	name string
}

var spaces int

// newSpace makes an empty network namespace.
func newSpace(t testing.TB, name string) space {
	t.Helper()
	needRoot(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	spaces++
	full := fmt.Sprintf("nftest-%d-%d-%s", os.Getpid(), spaces, name)
	h, err := netns.NewNamed(full)
	if err != nil {
		t.Fatal(err)
	}
	if err := netns.Set(here); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.Close()
		netns.DeleteNamed(full)
	})
	return space{h, full}
}

// do runs f inside the namespace.
func (s space) do(t testing.TB, f func() error) {
	t.Helper()
	if err := s.try(f); err != nil {
		t.Fatal(err)
	}
}

func (s space) try(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	if err != nil {
		return err
	}
	defer here.Close()
	if err := netns.Set(s.NsHandle); err != nil {
		return err
	}
	err = f()
	if back := netns.Set(here); back != nil {
		panic(back) // this thread is of no use to anyone
	}
	return err
}

// run executes a program inside the namespace and returns what it printed.
func (s space) run(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", s.name}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// engine makes an Engine that acts in the namespace.
func (s space) engine(t testing.TB) *Engine {
	e := New(Options{Netns: int(s.NsHandle)})
	t.Cleanup(e.Close)
	return e
}
