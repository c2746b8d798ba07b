// Command guest is the first process of a guest that runs kernel tests: see package
// kernels. It mounts what tests expect, runs the programs of its Job one after
// another, and powers the guest off.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/fairlead/fairlead/e2e/kernels"
)

// results is the second serial port. The first one is the kernel's own.
const results = "/dev/ttyS1"

func main() {
	if os.Getpid() != 1 {
		run()
		return
	}
	if err := first(); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
	}
	syscall.Sync()
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}

// first is the first process: it takes in the processes that tests leave behind, so
// a second one runs the tests.
func first() error {
	if err := mounts(); err != nil {
		return err
	}
	const memlock = 8 // RLIMIT_MEMLOCK
	unlimited := syscall.Rlimit{Cur: math.MaxUint64, Max: math.MaxUint64}
	if err := syscall.Setrlimit(memlock, &unlimited); err != nil {
		return err
	}
	out, err := os.OpenFile(results, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	env := []string{"PATH=/bin:/sbin", "HOME=/root", "TMPDIR=/tmp", "REQUIRE_ROOT=1"}
	p, err := os.StartProcess("/init", []string{"guest"}, &os.ProcAttr{Env: env, Files: []*os.File{nil, out, out}})
	if err != nil {
		return err
	}
	for {
		pid, err := syscall.Wait4(-1, nil, 0, nil)
		if pid == p.Pid || errors.Is(err, syscall.ECHILD) {
			return nil
		}
	}
}

// mounts makes the file systems of a node.
func mounts() error {
	for _, m := range []struct{ kind, target, data string }{
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"devtmpfs", "/dev", ""},
		{"tmpfs", "/run", ""},
		{"tmpfs", "/tmp", ""},
		{"cgroup2", "/sys/fs/cgroup", ""},
		{"bpf", "/sys/fs/bpf", ""},
		{"debugfs", "/sys/kernel/debug", ""},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(m.kind, m.target, m.kind, 0, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return os.MkdirAll("/root", 0o700)
}

// run does the Job. Its standard output is read by package kernels.
func run() {
	var u syscall.Utsname
	_ = syscall.Uname(&u)
	defer func() { fmt.Println(kernels.Done(text(u.Release[:]))) }()
	job, err := read()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, command := range job.Before {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			fmt.Printf("%s: %v: %s\n", strings.Join(command, " "), err, out)
		}
	}
	for _, r := range job.Runs {
		fmt.Println(kernels.Begin(r.Package))
		cmd := exec.Command(r.Program, r.Args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = r.Dir, os.Stdout, os.Stdout, append(os.Environ(), job.Env...)
		result := "ok"
		if err := cmd.Run(); err != nil {
			result = err.Error()
		}
		fmt.Println(kernels.End(r.Package, result))
	}
}

func read() (kernels.Job, error) {
	var job kernels.Job
	data, err := os.ReadFile("/" + kernels.JobFile)
	if err == nil {
		err = json.Unmarshal(data, &job)
	}
	return job, err
}

// text is a field of Utsname.
func text(field []int8) string {
	var b strings.Builder
	for _, c := range field {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}
