package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// A pin is named map-NAME or link-NAME, so that Cleanup knows one from the other.
const (
	mapPin  = "map-"
	linkPin = "link-"
)

// hook is a program and where it is attached.
type hook struct {
	name string
	at   ebpf.AttachType
	prog *ebpf.Program
}

// hooks are the programs in the order in which they are attached: who forgets a
// socket and who answers for an endpoint before who sends to it.
func (p *connectPrograms) hooks() []hook {
	return []hook{
		{"sock_release", ebpf.AttachCgroupInetSockRelease, p.SockRelease},
		{"recvmsg4", ebpf.AttachCGroupUDP4Recvmsg, p.Recvmsg4},
		{"recvmsg6", ebpf.AttachCGroupUDP6Recvmsg, p.Recvmsg6},
		{"getpeername4", ebpf.AttachCgroupInet4GetPeername, p.Getpeername4},
		{"getpeername6", ebpf.AttachCgroupInet6GetPeername, p.Getpeername6},
		{"sendmsg4", ebpf.AttachCGroupUDP4Sendmsg, p.Sendmsg4},
		{"sendmsg6", ebpf.AttachCGroupUDP6Sendmsg, p.Sendmsg6},
		{"connect4", ebpf.AttachCGroupInet4Connect, p.Connect4},
		{"connect6", ebpf.AttachCGroupInet6Connect, p.Connect6},
	}
}

// attach makes a program run at a cgroup. A link that is pinned there gets the
// program in one step; one to another cgroup goes when the new one is there.
func (h hook) attach(cgroup *os.File, id uint64, dir string) error {
	path := filepath.Join(dir, linkPin+h.name)
	old, err := link.LoadPinnedLink(path, nil)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("pinned link %s: %w", path, err)
	}
	if err == nil {
		defer func() { _ = old.Close() }() // it is pinned
		if info, err := old.Info(); err == nil && info.Cgroup() != nil && info.Cgroup().CgroupId == id {
			if err := old.Update(h.prog); err != nil {
				return fmt.Errorf("replace %s: %w", h.name, err)
			}
			return nil
		}
	}
	now, err := link.AttachRawLink(link.RawLinkOptions{Target: int(cgroup.Fd()), Program: h.prog, Attach: h.at})
	if err != nil {
		return fmt.Errorf("attach %s to cgroup %s: %w", h.name, cgroup.Name(), err)
	}
	defer func() { _ = now.Close() }() // it is pinned
	if old != nil {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("unpin %s: %w", h.name, err)
		}
	}
	if err := now.Pin(path); err != nil {
		return fmt.Errorf("pin %s: %w", h.name, err)
	}
	return nil
}

// attached reports whether all links are still pinned.
func attached(dir string) bool {
	for _, h := range (&connectPrograms{}).hooks() {
		if _, err := os.Lstat(filepath.Join(dir, linkPin+h.name)); err != nil {
			return false
		}
	}
	return true
}

// unpin removes the pins in dir whose names begin with prefix: links are detached
// by it, maps go when no program uses them. It returns how many there were.
func unpin(dir, prefix string) (n int, err error) {
	found, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for _, e := range found {
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		if gone := os.Remove(filepath.Join(dir, e.Name())); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
			continue
		}
		n++
	}
	return n, err
}

// isBPF reports whether a folder is in a bpf filesystem.
func isBPF(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if st.Type != unix.BPF_FS_MAGIC {
		return fmt.Errorf("%s is not a bpf filesystem: mount one there", dir)
	}
	return nil
}
