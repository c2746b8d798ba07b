package kernels

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Guest is a virtual machine that boots an Image with an initramfs.
type Guest struct {
	Image     Image
	Initramfs []byte // without the modules
	Dir       string // for the files of this run
	Console   string // the file that gets what the kernel prints
	Limit     time.Duration
	Less      Less
}

// memory of a guest.
const memory = "1536M"

// AtOnce returns how many guests run at the same time. An emulated guest has one
// processor: two of them wait for each other more than they work.
func AtOnce() int {
	if Accelerated() {
		return 1
	}
	return runtime.NumCPU()
}

// Run boots the guest and reads what it says into r, until it powers itself off. The
// guest ends with ctx and after the limit, whatever it does.
func (g Guest) Run(ctx context.Context, r *Report, heard func(line string, failed bool)) error {
	ctx, cancel := context.WithTimeout(ctx, g.Limit)
	defer cancel()
	initramfs, err := g.writeInitramfs()
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(initramfs) }()
	began := time.Now()
	err = g.qemu(ctx, initramfs, func(out io.Reader) error { return r.Read(out, heard) })
	r.Took = time.Since(began)
	if ctx.Err() != nil {
		err = fmt.Errorf("ended after %s: %w", r.Took.Round(time.Second), ctx.Err())
	}
	if err == nil && r.Release != "" {
		return nil
	}
	if err == nil {
		err = errors.New("it ended by itself")
	}
	return fmt.Errorf("guest with kernel %s: %w\nits console, %s, ends with\n%s", g.Image.Version, err, g.Console, g.lastWords())
}

// writeInitramfs puts the guest's files and its modules one after the other.
func (g Guest) writeInitramfs() (string, error) {
	more, err := os.ReadFile(filepath.Join(g.Image.Dir, modules))
	if err != nil {
		return "", err
	}
	file := filepath.Join(g.Dir, "initramfs")
	return file, os.WriteFile(file, append(bytes.Clone(g.Initramfs), more...), 0o600)
}

// qemu runs QEMU while read reads the second serial port. The guest ends even with a
// command that is killed: Linux signals it when the thread that started it ends.
func (g Guest) qemu(ctx context.Context, initramfs string, read func(io.Reader) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", g.arguments(initramfs)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = read(out)
	if failed := cmd.Wait(); failed != nil {
		err = fmt.Errorf("%w\n%s", failed, complaints.String())
	}
	return err
}

// lastWords are the last lines that the kernel printed.
func (g Guest) lastWords() string {
	text, _ := os.ReadFile(g.Console)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// arguments are those of QEMU. The guest has two serial ports and no device else.
//   - no_timer_check: Linux panics when the emulated timer is late, as on a busy machine.
//   - tsc=reliable: for the same reason it would change to a clock that is a device, and
//     each look at that one leaves the emulated processor.
//   - rcu_expedited: many tests wait for RCU, each time a few ticks of the timer.
func (g Guest) arguments(initramfs string) []string {
	args := []string{
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine", "q35",
		"-m", memory,
		"-kernel", filepath.Join(g.Image.Dir, vmlinuz), "-initrd", initramfs,
		"-append", "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check tsc=reliable rcupdate.rcu_expedited=1" + g.Less.parameters(),
		"-serial", "file:" + g.Console, "-serial", "stdio",
	}
	if Accelerated() {
		return append(args, "-smp", "2", "-accel", "kvm", "-cpu", "host")
	}
	// Five levels of page tables cost an emulator more than four. Where the processor has
	// erms or fsrm, Linux clears and copies memory by instructions that repeat themselves
	// for each byte, and newer versions do so more often: each byte is emulated.
	args = append(args, "-accel", "tcg", "-cpu", "max,la57=off,erms=off,fsrm=off")
	// The guest's clock counts its instructions, one a nanosecond, and not the time here. An
	// emulator that waits for a processor stops that clock too, so nothing in the guest is
	// late. While the guest waits, its clock jumps to the next timer at once.
	return append(args, "-icount", "shift=0,sleep=off", "-rtc", "clock=vm")
}

// Accelerated reports whether KVM works. A virtual machine whose processor cannot
// virtualize may have the device all the same, and guests hang in it.
func Accelerated() bool {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || !regexp.MustCompile(`\b(vmx|svm)\b`).Match(info) {
		return false
	}
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	return device.Close() == nil
}

// programs are what tests start.
var programs = []string{"ip", "tc", "nft", "conntrack", "ping", "sysctl", "setpriv", "sh", "cat", "sleep", "modprobe"}

// files are what these programs read.
var files = []string{"/etc/protocols", "/etc/services", "/etc/nsswitch.conf"}

// Initramfs is the guest's file system without the modules of its kernel. The
// program init is cmd/guest.
func Initramfs(ctx context.Context, init string, tests []TestProgram, job Job) ([]byte, error) {
	var a archive
	// The kernel opens its console before the first process mounts devtmpfs.
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "root", "var/run"} {
		a.dir(dir)
	}
	if err := a.addFile("init", init); err != nil {
		return nil, err
	}
	if err := addPrograms(ctx, &a); err != nil {
		return nil, err
	}
	for _, t := range tests {
		if err := t.addTo(&a); err != nil {
			return nil, err
		}
	}
	text, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	a.add(JobFile, text)
	return a.bytes(), nil
}

func addPrograms(ctx context.Context, a *archive) error {
	for _, name := range programs {
		file, err := exec.LookPath(name)
		if err != nil {
			return err
		}
		// The kernel starts /sbin/modprobe by this name.
		for _, dir := range []string{"bin", "sbin"} {
			if err := a.addFile(path.Join(dir, name), file); err != nil {
				return err
			}
		}
		if err := addLibraries(ctx, a, file); err != nil {
			return err
		}
	}
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			continue
		}
		if err := a.addFile(strings.TrimPrefix(file, "/"), file); err != nil {
			return err
		}
	}
	return nil
}

// addLibraries adds what the dynamic linker would load for a program.
func addLibraries(ctx context.Context, a *archive, file string) error {
	out, err := exec.CommandContext(ctx, "ldd", file).Output()
	if err != nil {
		return fmt.Errorf("ldd %s: %w", file, err)
	}
	for _, library := range regexp.MustCompile(`/\S+`).FindAllString(string(out), -1) {
		if err := a.addFile(strings.TrimPrefix(library, "/"), library); err != nil {
			return err
		}
	}
	return nil
}
