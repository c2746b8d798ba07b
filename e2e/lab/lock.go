package lab

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// lock lets one command at a time make or remove a lab on this machine,
// whatever its state directory: the names of the namespaces are the same. It
// is a lock of the kernel on an open file, so a crash releases it.
type lock struct{ file *os.File }

const lockFile = "/run/fairlead-lab.lock"

func acquire() (*lock, error) {
	f, err := os.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(lockFile)
		f.Close()
		return nil, fmt.Errorf("another lab command is at work (pid %s)", strings.TrimSpace(string(holder)))
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := fmt.Fprintf(f, "%d\n", os.Getpid()); err != nil {
		f.Close()
		return nil, err
	}
	return &lock{file: f}, nil
}

func (l *lock) release() {
	if l != nil {
		l.file.Close()
	}
}
