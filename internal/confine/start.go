// Package confine takes a process's rights away before it reads what strangers send.
// Start begins a child that has no capability and cannot gain one. The child itself
// then calls Seal, and can do little more than use what it holds open.
package confine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// User is the user and the group of a child. Nothing on a node belongs to it.
const User = 64179

// needed are the capabilities that it takes to start a child as another user, and to end
// it. Without them the child keeps this process's user.
const needed = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID | 1<<unix.CAP_KILL

// Start starts cmd as User, without capabilities, with no_new_privs and without this
// process's environment. Where this process may not change the user, the child keeps it.
func Start(cmd *exec.Cmd) error {
	cmd.Env = []string{}
	return onOwnThread(func() error { return startFromThread(cmd) })
}

// onOwnThread calls do on a thread that ends afterwards. A thread hands what it has given
// up to its children, and to no other thread.
func onOwnThread(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // it ends with this goroutine, which never unlocks it
		if unix.Gettid() != os.Getpid() {
			done <- do()
			return
		}
		// The first thread never ends, and /proc shows the process by it.
		defer runtime.UnlockOSThread()
		done <- onOwnThread(do)
	}()
	return <-done
}

func startFromThread(cmd *exec.Cmd) error {
	have, err := capabilities()
	if err != nil {
		return err
	}
	if have&(1<<unix.CAP_SETPCAP) != 0 {
		if err := dropBounding(); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if have&needed == needed {
		// The kernel clears the capabilities of a program that another user than 0 starts.
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: User, Gid: User}}
	} else if err := dropCapabilities(); err != nil {
		return err
	}
	return cmd.Start()
}

// version is that of the kernel's interface for capabilities of 64 bits, in two words.
var version = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}

// capabilities returns the effective capabilities of this thread, a bit for each.
func capabilities() (uint64, error) {
	header, data := version, [2]unix.CapUserData{}
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("capabilities: %w", err)
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), nil
}

// dropCapabilities leaves this thread none. Under no_new_privs a program that it starts
// as user 0 does not get them back.
func dropCapabilities() error {
	header, data := version, [2]unix.CapUserData{}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return nil
}

// dropBounding empties the set that bounds what a later program of this thread may have.
func dropBounding() error {
	for c := uintptr(0); ; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil // the kernel has no more
		}
		if err != nil {
			return fmt.Errorf("bounding set: %w", err)
		}
	}
}
