package forwarding

import (
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A signal of Go's scheduler while a connection is made is not a failure of what is measured.
// The signals go on until connect has returned, and the listener has room once the first of
// them has interrupted it.
func TestConnectIsInterrupted(t *testing.T) {
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l)
	if err := unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(l, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(l)
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*unix.SockaddrInet4).Port))
	if err := accepts(to, time.Minute); err != nil { // and the listener has no room for another
		t.Fatal(err)
	}

	done := make(chan error)
	thread := make(chan int)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		thread <- unix.Gettid()
		done <- accepts(to, time.Minute)
	}()
	id := <-thread
	for i := 0; ; i++ {
		if err := unix.Tgkill(os.Getpid(), id, unix.SIGURG); err != nil {
			t.Fatal(err)
		}
		if i == 100 {
			if fd, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC); err == nil {
				_ = unix.Close(fd)
			}
		}
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("after %d signals: %v", i, err)
			}
			return
		case <-time.After(time.Millisecond):
		}
	}
}
