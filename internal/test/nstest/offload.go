package nstest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtool is the kernel's structure ifreq with a command of ethtool.
type ethtool struct {
	link    [unix.IFNAMSIZ]byte
	command *byte
	_       [16]byte
}

// Offload has a link of the namespace do something in the place of the kernel or not, as "ethtool
// -K LINK FEATURE on" has it.
func (s Space) Offload(t testing.TB, link, feature string, on bool) {
	t.Helper()
	s.Do(t, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		ask := func(command []byte) error {
			r := ethtool{command: &command[0]}
			copy(r.link[:], link)
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r))); errno != 0 {
				return fmt.Errorf("%s of %s: %w", feature, link, errno)
			}
			return nil
		}
		const stringSize, most = 32, 256
		names := make([]byte, 12+most*stringSize)
		binary.NativeEndian.PutUint32(names, unix.ETHTOOL_GSTRINGS)
		binary.NativeEndian.PutUint32(names[4:], 4) // ETH_SS_FEATURES
		if err := ask(names); err != nil {
			return err
		}
		count := int(binary.NativeEndian.Uint32(names[8:]))
		blocks := (count + 31) / 32
		set := make([]byte, 8+8*blocks)
		binary.NativeEndian.PutUint32(set, unix.ETHTOOL_SFEATURES)
		binary.NativeEndian.PutUint32(set[4:], uint32(blocks))
		for i := range count {
			name := names[12+i*stringSize:][:stringSize]
			if string(bytes.TrimRight(name, "\x00")) != feature {
				continue
			}
			block, bit := set[8+8*(i/32):], uint32(1)<<(i%32)
			binary.NativeEndian.PutUint32(block, bit) // which are set
			if on {
				binary.NativeEndian.PutUint32(block[4:], bit)
			}
			return ask(set)
		}
		return fmt.Errorf("%s has no feature %q", link, feature)
	})
}
