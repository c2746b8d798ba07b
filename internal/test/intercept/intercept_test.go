//go:build linux

package intercept

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

const held = "FAIRLEAD_TEST_HELD"

func TestMain(m *testing.M) {
	if os.Getenv(held) != "" {
		runHeld()
		return
	}
	os.Exit(m.Run())
}

// runHeld says what its calls come to, until one ends it.
func runHeld() {
	fd, err := Hold(Filter{Number: unix.SYS_MKDIRAT}, Filter{Number: unix.SYS_SOCKET, First: []uint32{unix.AF_NETLINK}})
	fmt.Println(fd, err)
	fmt.Println(os.Mkdir("/nowhere/at/all", 0o755))
	_, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 0)
	fmt.Println(err)
	_, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	fmt.Println(err)
	fmt.Println(os.Mkdir("/nowhere/deadly", 0o755))
}

// A call is let through, answered in the kernel's place, or the end of its process.
func TestCallsAreHeld(t *testing.T) {
	nstest.NeedRoot(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), held+"=1")
	var rest bytes.Buffer
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var fd int
	var fault string
	if _, err := fmt.Fscanln(out, &fd, &fault); err != nil || fault != "<nil>" {
		t.Fatal(fd, fault, err)
	}
	err = Serve(cmd.Process.Pid, fd, func(c Call) Verdict {
		if c.Number == unix.SYS_SOCKET {
			return Verdict{Answered: true, Errno: unix.EMFILE}
		}
		return Verdict{Kill: bytes.HasPrefix(c.Memory(1, len("/nowhere/deadly")), []byte("/nowhere/deadly"))}
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := rest.ReadFrom(out); err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.String() != "signal: killed" {
		t.Errorf("%v", err)
	}
	const want = "mkdir /nowhere/at/all: no such file or directory\ntoo many open files\n<nil>\n"
	if rest.String() != want {
		t.Errorf("got %q, want %q", rest.String(), want)
	}
}
