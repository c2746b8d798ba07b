package confine

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// The test binary is also the child, by its first argument: one that is sealed, one that
// is not, and one that is sealed and takes all the memory that it can have.
const (
	sealed = "sealed"
	open   = "open"
	greedy = "greedy"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case sealed, greedy:
			if err := Seal(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			if os.Args[1] == greedy {
				take()
			}
			attack()
			return
		case open:
			attack()
			return
		}
	}
	os.Exit(m.Run())
}

// take takes four times the memory that a sealed process may.
func take() {
	var all [][]byte
	for range 64 {
		all = append(all, make([]byte, mostGrowth/16))
	}
	fmt.Println(len(all))
	os.Exit(0)
}

// attack prints what each attempt of somebody who has taken the process over comes to,
// and waits to be looked at.
func attack() {
	errno := func(_, _ uintptr, e syscall.Errno) error {
		if e != 0 {
			return e
		}
		return nil
	}
	out := map[string]string{}
	for name, try := range map[string]func() error{
		"read the token":            func() error { _, err := os.ReadFile(os.Args[2]); return err },
		"read the program":          func() error { _, err := os.Open("/proc/self/exe"); return err },
		"list processes":            func() error { _, err := os.ReadDir("/proc"); return err },
		"write a file":              func() error { return os.WriteFile(os.Args[2]+".new", nil, 0o600) },
		"connect elsewhere":         func() error { _, err := net.Dial("tcp", os.Args[3]); return err },
		"listen":                    func() error { _, err := net.Listen("tcp", "127.0.0.1:0"); return err },
		"send packets of its own":   func() error { _, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP); return err },
		"change the node's network": func() error { _, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 0); return err },
		"start a program":           func() error { return exec.Command("/bin/true").Run() },
		"signal the agent":          func() error { return syscall.Kill(os.Getppid(), 0) },
		"be root again":             func() error { return errno(syscall.RawSyscall(unix.SYS_SETUID, 0, 0, 0)) },
		"leave its mount namespace": func() error { return unix.Unshare(unix.CLONE_NEWNS) },
		"open the agent":            func() error { return errno(syscall.RawSyscall(unix.SYS_PIDFD_OPEN, uintptr(os.Getppid()), 0, 0)) },
	} {
		if err := try(); err != nil {
			out[name] = err.Error()
		} else {
			out[name] = ""
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(out)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// child is a process that has made its attempts.
type child struct {
	pid  int
	said map[string]string
}

// begin starts the test binary as mode, and waits until it has made its attempts.
func begin(t *testing.T, mode string, start func(*exec.Cmd) error) child {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	cmd := exec.Command("/proc/self/exe", mode, token, l.Addr().String())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	c := child{pid: cmd.Process.Pid}
	if err := json.NewDecoder(out).Decode(&c.said); err != nil {
		t.Fatal(err)
	}
	return c
}

// has fails unless every thread of the process has these lines in its status.
func has(t *testing.T, pid int, want map[string]string) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) < 2 {
		t.Fatalf("threads of %d: %v, %v", pid, files, err)
	}
	for _, file := range files {
		got := status(file)
		for key, value := range want {
			if got[key] != value {
				t.Errorf("%s: %s is %q, want %q", file, key, got[key], value)
			}
		}
	}
}

// status is the lines of a status file of /proc, by their names.
func status(file string) map[string]string {
	text, _ := os.ReadFile(file)
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		out[key] = strings.Join(strings.Fields(value), " ")
	}
	return out
}

// none is a set without a capability.
const none = "0000000000000000"

// Each attempt works in a process that keeps its rights, and fails in one that is
// confined, with and without the right to change the user.
func TestAttackFromASession(t *testing.T) {
	nstest.NeedRoot(t)
	for name, attempt := range begin(t, open, (*exec.Cmd).Start).said {
		if attempt != "" {
			t.Errorf("%s does not work in an ordinary process: %s", name, attempt)
		}
	}
	refused := func(t *testing.T, c child) {
		t.Helper()
		work := 0
		for _, name := range slices.Sorted(maps.Keys(c.said)) {
			if !strings.HasSuffix(c.said[name], unix.EPERM.Error()) {
				t.Errorf("%s: %q", name, c.said[name])
				work++
			}
		}
		t.Logf("attack: a session's process that a router has taken over: %d of %d attempts work", work, len(c.said))
	}
	user := fmt.Sprintf("%d %[1]d %[1]d %[1]d", User)
	t.Run("as another user", func(t *testing.T) {
		c := begin(t, sealed, Start)
		refused(t, c)
		has(t, c.pid, map[string]string{
			"Uid": user, "Gid": user, "Groups": "", "NoNewPrivs": "1", "Seccomp": "2",
			"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none,
		})
	})
	t.Run("as the same user", func(t *testing.T) {
		c := begin(t, sealed, startWith(1<<unix.CAP_NET_ADMIN))
		refused(t, c)
		has(t, c.pid, map[string]string{
			"Uid": "0 0 0 0", "NoNewPrivs": "1", "Seccomp": "2", "CapInh": none, "CapPrm": none, "CapEff": none, "CapAmb": none,
		})
	})
}

// startWith starts a command as Start does, from a thread with these capabilities alone.
func startWith(have uint32) func(*exec.Cmd) error {
	return func(cmd *exec.Cmd) error {
		cmd.Env = []string{}
		return onOwnThread(func() error {
			header, data := version, [2]unix.CapUserData{{Effective: have, Permitted: have}}
			if err := unix.Capset(&header, &data[0]); err != nil {
				return err
			}
			return startFromThread(cmd)
		})
	}
}

// The process that starts children keeps all of its rights on all of its threads.
func TestStarterKeepsItsRights(t *testing.T) {
	nstest.NeedRoot(t)
	before := status("/proc/self/status")
	for range 10 {
		begin(t, sealed, Start)
	}
	same := func() bool {
		files, _ := filepath.Glob("/proc/self/task/*/status")
		for _, file := range files {
			now := status(file)
			for _, key := range []string{"Uid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp"} {
				if len(now) > 0 && now[key] != before[key] {
					return false
				}
			}
		}
		return true
	}
	for end := time.Now().Add(time.Minute); !same(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a thread without rights stays")
		}
	}
}

// A process that takes more and more memory ends itself, and not its neighbours.
func TestMemoryIsBounded(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", greedy)
	if err := Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("a sealed process has what it wants")
	}
}

// The filter names no system call that one of the architectures does not have.
func TestCallsOfEachArchitecture(t *testing.T) {
	for _, name := range []string{"amd64", "arm64"} {
		info, err := arch.GetInfo(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range append(slices.Clone(calls), "clone", "tgkill", "clone3") {
			if _, ok := info.SyscallNames[call]; !ok {
				t.Errorf("%s has no %s", name, call)
			}
		}
	}
}
