//go:build linux

// Package intercept holds system calls of another process, and lets a test decide about
// each: to let it through, to answer it in the kernel's place, or to end the process
// before the kernel acts. The code that runs there needs no hooks for that.
package intercept

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Call is a system call that waits for a Verdict.
type Call struct {
	Number int // such as unix.SYS_SENDTO
	Args   [6]uint64
	pid    int
}

// Memory copies n bytes of the process that begin at an argument of the Call. It
// returns nil if they cannot be read.
func (c Call) Memory(arg, n int) []byte {
	if n <= 0 {
		return nil
	}
	out := make([]byte, n)
	local := unix.Iovec{Base: &out[0]}
	local.SetLen(n)
	if got, err := unix.ProcessVMReadv(c.pid, []unix.Iovec{local}, c.at(arg, n), 0); err != nil || got != n {
		return nil
	}
	return out
}

// Fill overwrites the memory that an argument points to.
func (c Call) Fill(arg int, data []byte) error {
	local := unix.Iovec{Base: &data[0]}
	local.SetLen(len(data))
	if _, err := unix.ProcessVMWritev(c.pid, []unix.Iovec{local}, c.at(arg, len(data)), 0); err != nil {
		return fmt.Errorf("write the memory of process %d: %w", c.pid, err)
	}
	return nil
}

func (c Call) at(arg, n int) []unix.RemoteIovec {
	return []unix.RemoteIovec{{Base: uintptr(c.Args[arg]), Len: n}}
}

// File returns a descriptor of the test's own for the file that is descriptor fd in
// the process.
func (c Call) File(fd int) (int, error) { return descriptor(c.pid, fd) }

func descriptor(pid, fd int) (int, error) {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, fmt.Errorf("open process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(process) }()
	own, err := unix.PidfdGetfd(process, fd, 0)
	if err != nil {
		return -1, fmt.Errorf("descriptor %d of process %d: %w", fd, pid, err)
	}
	return own, nil
}

// Verdict is what to do with a Call. The zero value lets it through.
type Verdict struct {
	Kill     bool       // the process ends with SIGKILL
	Answered bool       // the kernel does not act; the call returns Value or Errno
	Value    int64      // what the call returns
	Errno    unix.Errno // if not 0, the error that it fails with
}

// Filter selects calls by their number, and by their first argument unless First is
// empty.
type Filter struct {
	Number int
	First  []uint32
}

// Hold has each call of this process that a Filter selects wait until the end of the
// process for the one that calls Serve with the descriptor that it returns.
func Hold(filters ...Filter) (int, error) {
	program := compile(filters)
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	flags := unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return -1, fmt.Errorf("hold system calls: %w", errno)
	}
	return int(fd), nil
}

// notification and response are struct seccomp_notif and seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	number     int32
	arch       uint32
	pointer    uint64
	args       [6]uint64
}

type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// letThrough is SECCOMP_USER_NOTIF_FLAG_CONTINUE.
const letThrough = 1

// Serve asks decide about each call of process pid, which Hold gave descriptor held
// there. It returns when the process has ended.
func Serve(pid, held int, decide func(Call) Verdict) error {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(process) }()
	fd, err := descriptor(pid, held)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	for {
		wait := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(process), Events: unix.POLLIN}}
		if _, err := unix.Poll(wait, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for a system call: %w", err)
		}
		switch {
		case wait[0].Revents&unix.POLLIN != 0:
			if err := next(fd, pid, decide); err != nil {
				return err
			}
		// Linux 5.10 hangs up only when the parent has waited for the process. The parent
		// may be the one that waits for Serve.
		case wait[0].Revents&unix.POLLHUP != 0, wait[1].Revents&unix.POLLIN != 0:
			return nil
		}
	}
}

// next decides about one call.
func next(fd, pid int, decide func(Call) Verdict) error {
	var n notification
	// The kernel reports calls that a signal or the end of the process has taken back
	// as missing, and those of signals again.
	if err := ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); err != nil {
		return taken(err)
	}
	v := decide(Call{int(n.number), n.args, pid})
	if v.Kill {
		return unix.Kill(pid, unix.SIGKILL)
	}
	r := response{id: n.id, flags: letThrough}
	if v.Answered {
		r = response{id: n.id, value: v.Value, errno: -int32(v.Errno)}
	}
	return taken(ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)))
}

func taken(err error) error {
	if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg)); errno != 0 {
		return fmt.Errorf("decide about a system call: %w", errno)
	}
	return nil
}

// Where struct seccomp_data holds the number, and the low half of the first argument
// on a little-endian machine.
const (
	offNumber = 0
	offFirst  = 16
)

// compile makes a program of the kernel's packet filter from filters.
func compile(filters []Filter) []unix.SockFilter {
	const load, equal, result = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	hold := unix.SockFilter{Code: result, K: unix.SECCOMP_RET_USER_NOTIF}
	allow := unix.SockFilter{Code: result, K: unix.SECCOMP_RET_ALLOW}
	var out []unix.SockFilter
	for _, f := range filters {
		body := []unix.SockFilter{hold}
		if len(f.First) > 0 {
			body = []unix.SockFilter{{Code: load, K: offFirst}}
			for _, v := range f.First {
				body = append(body, unix.SockFilter{Code: equal, K: v, Jf: 1}, hold)
			}
			body = append(body, allow)
		}
		out = append(out, unix.SockFilter{Code: load, K: offNumber}, unix.SockFilter{Code: equal, K: uint32(f.Number), Jf: uint8(len(body))})
		out = append(out, body...)
	}
	return append(out, allow)
}
