package forwarding

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const netnsDir = "/run/netns"

// prefix begins the names of all namespaces; the pid of who made them follows.
const prefix = "flbench-"

// space is a network namespace.
type space struct{ name string }

func newSpace(ctx context.Context, name string) (space, error) {
	s := space{fmt.Sprintf("%s%d-%s", prefix, os.Getpid(), name)}
	if out, err := exec.CommandContext(ctx, "ip", "netns", "add", s.name).CombinedOutput(); err != nil {
		return s, fmt.Errorf("network namespace: %w: %s", err, out)
	}
	return s, s.ip(ctx, "link set lo up")
}

func (s space) path() string { return filepath.Join(netnsDir, s.name) }

func (s space) remove(ctx context.Context) error {
	if out, err := exec.CommandContext(ctx, "ip", "netns", "del", s.name).CombinedOutput(); err != nil {
		return fmt.Errorf("network namespace: %w: %s", err, out)
	}
	return nil
}

// removeStale deletes what runs that were killed have left.
func removeStale(ctx context.Context) error {
	found, err := filepath.Glob(filepath.Join(netnsDir, prefix+"*"))
	if err != nil {
		return err
	}
	for _, path := range found {
		name := filepath.Base(path)
		maker, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), "-")
		pid, err := strconv.Atoi(maker)
		if err != nil || unix.Kill(pid, 0) == nil {
			continue
		}
		if err := (space{name}).remove(ctx); err != nil {
			return err
		}
	}
	return nil
}

// command is one that runs in the namespace, as the process that is started.
func (s space) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + s.path(), "--"}, args...)...)
}

// run runs a program to its end.
func (s space) run(ctx context.Context, stdin string, args ...string) error {
	cmd := s.command(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func (s space) ip(ctx context.Context, commands ...string) error {
	return s.run(ctx, strings.Join(commands, "\n")+"\n", "ip", "-batch", "-")
}

func (s space) sysctl(ctx context.Context, settings ...string) error {
	return s.run(ctx, "", append([]string{"sysctl", "-qw"}, settings...)...)
}

// do runs f in the namespace, on this goroutine; sockets that f makes stay there.
func (s space) do(f func() error) error {
	runtime.LockOSThread() // for good, if the way back is lost: then the thread ends with the goroutine
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer here.Close()
	there, err := os.Open(s.path())
	if err != nil {
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", s.name, err)
	}
	err = f()
	if back := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); back != nil {
		return fmt.Errorf("leave %s: %w", s.name, back)
	}
	runtime.UnlockOSThread()
	return err
}

func (s space) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = s.do(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

func (s space) listen(ctx context.Context, address string) (l net.Listener, err error) {
	err = s.do(func() (err error) {
		l, err = (&net.ListenConfig{}).Listen(ctx, "tcp4", address)
		return err
	})
	return l, err
}
