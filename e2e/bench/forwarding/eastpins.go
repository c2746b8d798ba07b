package forwarding

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// benchPins is a bpf filesystem that is mounted nowhere: programs see it by this
// process.
type benchPins struct {
	mount int
	dir   string
}

func newBenchPins() (*benchPins, error) {
	fd, err := unix.Fsopen("bpf", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("bpf filesystem: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.FsconfigCreate(fd); err != nil {
		return nil, fmt.Errorf("bpf filesystem: %w", err)
	}
	mount, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("bpf filesystem: %w", err)
	}
	return &benchPins{mount, fmt.Sprintf("/proc/%d/fd/%d/fairlead", os.Getpid(), mount)}, nil
}

// attached fails while not all programs are attached.
func (p *benchPins) attached() error {
	const programs = 9
	found, err := filepath.Glob(filepath.Join(p.dir, "link-*"))
	if err == nil && len(found) != programs {
		err = fmt.Errorf("%d programs are attached", len(found))
	}
	return err
}

func (p *benchPins) close() error { return unix.Close(p.mount) }

// hold makes the programs go on although no agent renews their lease.
func (p *benchPins) hold() error {
	m, err := ebpf.LoadPinnedMap(filepath.Join(p.dir, "map-config"), nil)
	if err != nil {
		return err
	}
	defer func() { _ = m.Close() }()
	settings, err := m.LookupBytes(uint32(0))
	if err != nil {
		return err
	}
	const until = 8 // where the time is, in ns since boot
	binary.NativeEndian.PutUint64(settings[until:], math.MaxUint64)
	return m.Put(uint32(0), settings)
}
