package lab

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// lock lets one command at a time make or remove the lab. It is a lock of the
// kernel on an open file: a crash releases it.
type lock struct{ file *os.File }

func (s state) acquire() (*lock, error) {
	if err := os.MkdirAll(string(s), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(s.lock(), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(s.lock())
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
