package trace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of the kernel's older packet filter (linux/netfilter_ipv4/ip_tables.h; IPv6 has the same
// numbers).
const (
	soGetInfo    = 64  // IPT_SO_GET_INFO
	soGetEntries = 65  // IPT_SO_GET_ENTRIES
	tableName    = 32  // XT_TABLE_MAXNAMELEN
	infoSize     = 84  // struct ipt_getinfo
	infoEntries  = 76  // offset of num_entries
	infoBytes    = 80  // offset of size
	entriesHead  = 40  // what is before the entries in struct ipt_get_entries
	rawProtocol  = 255 // IPPROTO_RAW
)

// legacy looks for chains of the older packet filter. Its tables are read whole, so one that
// has the size of the last time is not read again.
type legacy struct {
	known map[string]legacyChain // by family, table and name
}

type legacyChain struct {
	print string // of its table
	there bool
}

// look looks for a chain of a table. A table that is not in use is not asked for: that would
// load its module.
func (l *legacy) look(proc fs.FS, family, table, chain string) (print string, there bool, err error) {
	names, err := fs.ReadFile(proc, "thread-self/net/"+family+"_tables_names")
	if errors.Is(err, fs.ErrNotExist) || err == nil && !slices.Contains(strings.Fields(string(names)), table) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	got, err := l.read(family, table, chain)
	return got.print, got.there, err
}

func (l *legacy) read(family, table, chain string) (_ legacyChain, err error) {
	domain, level := unix.AF_INET, unix.SOL_IP
	if family == "ip6" {
		domain, level = unix.AF_INET6, unix.SOL_IPV6
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, rawProtocol)
	if err != nil {
		return legacyChain{}, os.NewSyscallError("socket", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	info := make([]byte, infoSize)
	copy(info[:tableName-1], table)
	if err := option(fd, level, soGetInfo, info); err != nil {
		return legacyChain{}, err
	}
	count, size := binary.NativeEndian.Uint32(info[infoEntries:]), binary.NativeEndian.Uint32(info[infoBytes:])
	key, print := family+" "+table+" "+chain, fmt.Sprint(count, size)
	if t := l.known[key]; t.print == print {
		return t, nil
	}
	data := make([]byte, entriesHead+int(size))
	copy(data[:tableName-1], table)
	binary.NativeEndian.PutUint32(data[tableName:], size)
	if err := option(fd, level, soGetEntries, data); err != nil {
		return legacyChain{}, err // the table may have changed by now, which the next look sees
	}
	if l.known == nil {
		l.known = map[string]legacyChain{}
	}
	// A chain begins with an entry that has its name. Jumps to it have none.
	l.known[key] = legacyChain{print, bytes.Contains(data[entriesHead:], append([]byte(chain), 0))}
	return l.known[key], nil
}

// option has the kernel fill in data, which says what is asked for.
func option(fd, level, name int, data []byte) error {
	size := uint32(len(data))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&data[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return os.NewSyscallError("getsockopt", errno)
	}
	return nil
}
