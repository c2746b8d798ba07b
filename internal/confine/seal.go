package confine

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"
)

// The limits of a sealed process. The number of threads has none: the kernel counts those
// of all processes of a user together.
const (
	mostFiles = 64
	// mostGrowth is how many bytes of memory it may take beyond what it has. Go asks for
	// 64 MiB at a time.
	mostGrowth = 256 << 20
)

// calls are what Go and open connections need. None of them opens a file or a socket,
// starts a program or reaches another process: the kernel refuses those with EPERM.
var calls = []string{
	// memory
	"brk", "madvise", "mincore", "mmap", "mprotect", "mremap", "munmap",
	// threads, signals, time, random numbers and the name of the host
	"clock_gettime", "clock_nanosleep", "exit", "exit_group", "futex", "getpid", "getrandom", "gettid", "nanosleep",
	"restart_syscall", "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_getaffinity", "sched_yield",
	"set_robust_list", "sigaltstack", "uname",
	// what is open
	"close", "epoll_create1", "epoll_ctl", "epoll_pwait", "eventfd2", "fcntl", "fstat", "getpeername", "getsockname",
	"getsockopt", "pread64", "read", "readv", "recvfrom", "recvmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "write", "writev",
}

// Seal limits this process, with all of its threads, to the files that it holds open or is
// passed. Afterwards it can open nothing, start nothing and connect to nothing. Nothing
// undoes Seal.
func Seal() error {
	size, err := dataSize()
	if err != nil {
		return err
	}
	for resource, limit := range map[int]uint64{
		unix.RLIMIT_NOFILE: mostFiles, unix.RLIMIT_CORE: 0, unix.RLIMIT_DATA: size + mostGrowth,
	} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return fmt.Errorf("limit %d: %w", resource, err)
		}
	}
	if err := seccomp.LoadFilter(filter(os.Getpid())); err != nil {
		return fmt.Errorf("system calls: %w", err)
	}
	return nil
}

// filter is what the process pid may ask the kernel for.
func filter(pid int) seccomp.Filter {
	thread := seccomp.NameWithConditions{Name: "clone", Conditions: seccomp.ArgumentConditions{
		{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_THREAD},
	}}
	preempt := seccomp.NameWithConditions{Name: "tgkill", Conditions: seccomp.ArgumentConditions{
		{Argument: 0, Operation: seccomp.Equal, Value: uint64(pid)},
	}}
	return seccomp.Filter{
		NoNewPrivs: true, Flag: seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{DefaultAction: seccomp.ActionErrno, Syscalls: []seccomp.SyscallGroup{
			{Action: seccomp.ActionAllow, Names: calls, NamesWithCondtions: []seccomp.NameWithConditions{thread, preempt}},
			// A filter cannot read the flags of clone3. C libraries then use clone.
			{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: []string{"clone3"}},
		}},
	}
}

// dataSize is how much memory RLIMIT_DATA counts now, in bytes.
func dataSize() (uint64, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, fmt.Errorf("memory: %w", err)
	}
	fields := bytes.Fields(text)
	if len(fields) < 6 {
		return 0, fmt.Errorf("memory: %q", text)
	}
	pages, err := strconv.ParseUint(string(fields[5]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("memory: %w", err)
	}
	return pages * uint64(os.Getpagesize()), nil
}
