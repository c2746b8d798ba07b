package labs

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// host is a machine of a lab: network, mount and PID namespaces of its own. Its /etc,
// /opt, /usr/local and /run are its own; what it writes there goes with it.
type host struct {
	name  string
	t     *testing.T
	netns string
	hold  *exec.Cmd // process 1: with it everything ends that runs here
}

// enter makes the machine's own files; its argument is an empty directory.
const enter = `set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t sysfs sysfs /sys # of this network
mount -t tmpfs tmpfs "$1"
for dir in etc opt usr/local; do
	mkdir -p "$1/$dir" "$1/work/$dir"
	mount -t overlay -o "lowerdir=/$dir,upperdir=$1/$dir,workdir=$1/work/$dir" overlay "/$dir"
done
mkdir -p /opt/fairlead
mount --bind "$2" /opt/fairlead
mount -t tmpfs tmpfs /run
echo ready
exec sleep infinity`

func newHost(t *testing.T, name, root string) *host {
	t.Helper()
	h := &host{name: name, t: t, netns: fmt.Sprintf("fllabs-%d-%s", os.Getpid(), name)}
	must(t, system(t.Context(), "ip", "netns", "add", h.netns))
	t.Cleanup(func() { must(t, system(context.Background(), "ip", "netns", "del", h.netns)) })
	h.hold = exec.Command("nsenter", "--net="+h.path(), "--", //nolint:gosec // our own names
		"unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", enter, "sh", t.TempDir(), root)
	h.hold.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	h.hold.Stderr = os.Stderr
	out, err := h.hold.StdoutPipe()
	must(t, err)
	runtime.LockOSThread() // the death signal is of the thread that starts it; the test's stays
	must(t, h.hold.Start())
	t.Cleanup(h.powerOff)
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatalf("%s does not start: %v", name, err)
	}
	h.ip("link set lo up")
	return h
}

func (h *host) path() string { return filepath.Join("/run/netns", h.netns) }

// powerOff ends everything that runs on the machine, at once. Its links stay; see
// unplug.
func (h *host) powerOff() {
	if h.hold.ProcessState == nil {
		_ = h.hold.Process.Kill() // unshare, which takes process 1 along
		_ = h.hold.Wait()
	}
}

// unplug lets nothing in or out of the machine's cards. Its neighbours see no carrier
// go: on virtual machines they would not either.
func (h *host) unplug() {
	h.t.Helper()
	out, err := exec.CommandContext(h.t.Context(), "ip", "-n", h.netns, "-br", "link", "show", "up").Output() //nolint:gosec // our own name
	must(h.t, err)
	var rules strings.Builder
	for line := range strings.Lines(string(out)) {
		if name, _, _ := strings.Cut(strings.Fields(line)[0], "@"); strings.HasPrefix(name, "eth") {
			for _, hook := range []string{"ingress", "egress"} {
				fmt.Fprintf(&rules, "table netdev off { chain %s-%s { type filter hook %[2]s device %[1]s priority 0; policy drop; }; }\n", name, hook)
			}
		}
	}
	cmd := exec.CommandContext(h.t.Context(), "nsenter", "--net="+h.path(), "nft", "-f", "-") //nolint:gosec // our own name
	cmd.Stdin = strings.NewReader(rules.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("unplug %s: %v: %s", h.name, err, out)
	}
}

// command is one that runs on the machine.
func (h *host) command(ctx context.Context, args ...string) *exec.Cmd {
	first := h.first()
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + h.path(), fmt.Sprintf("--mount=/proc/%s/ns/mnt", first), fmt.Sprintf("--pid=/proc/%s/ns/pid", first), "--"}, args...)...)
}

// first is the PID, as the test sees it, of the machine's process 1.
func (h *host) first() string {
	h.t.Helper()
	pid := h.hold.Process.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	must(h.t, err)
	return strings.TrimSpace(string(children))
}

// run runs a command on the machine to its end and returns what it printed.
func (h *host) run(env []string, args ...string) (string, error) {
	cmd := h.command(h.t.Context(), args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s on %s: %w: %s", strings.Join(args, " "), h.name, err, out)
	}
	return string(out), err
}

// start starts a command that runs until the machine or the test ends.
func (h *host) start(log string, args ...string) {
	h.t.Helper()
	file, err := os.Create(filepath.Join(h.t.ArtifactDir(), log))
	must(h.t, err)
	cmd := h.command(context.Background(), args...)
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(h.t, cmd.Start())
	h.t.Cleanup(func() {
		h.powerOff()
		_ = cmd.Wait()
		_ = file.Close()
		if h.t.Failed() {
			text, _ := os.ReadFile(file.Name())
			h.t.Logf("%s:\n%s", log, text[max(0, len(text)-3000):])
		}
	})
}

// write writes a file of the machine.
func (h *host) write(path, content, mode string) {
	h.t.Helper()
	cmd := h.command(h.t.Context(), "sh", "-c", `mkdir -p "${1%/*}" && cat >"$1" && chmod "$2" "$1"`, "sh", path, mode)
	cmd.Stdin = strings.NewReader(content)
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("write %s on %s: %v: %s", path, h.name, err, out)
	}
}

// ip runs ip commands in the machine's network.
func (h *host) ip(commands ...string) {
	h.t.Helper()
	must(h.t, ipBatch(h.t.Context(), h.netns, commands...))
}

// do runs f in the machine's network, on this goroutine; sockets that f makes stay
// there.
func (h *host) do(f func() error) error { return inside(h.path(), f) }

func inside(netns string, f func() error) error {
	runtime.LockOSThread() // for good, if the way back is lost: then the thread ends with the goroutine
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer here.Close()
	there, err := os.Open(netns)
	if err != nil {
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	err = f()
	if back := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); back != nil {
		return back
	}
	runtime.UnlockOSThread()
	return err
}

// listen listens in a network namespace, until the test ends.
func listen(t *testing.T, netns, address string) net.Listener {
	t.Helper()
	var l net.Listener
	must(t, inside(netns, func() (err error) {
		l, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp4", address)
		return err
	}))
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func ipBatch(ctx context.Context, netns string, commands ...string) error {
	cmd := exec.CommandContext(ctx, "ip", "-n", netns, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip in %s: %w: %s: %s", netns, err, out, strings.Join(commands, "; "))
	}
	return nil
}

func system(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
