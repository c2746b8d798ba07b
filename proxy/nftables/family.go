package nftables

import (
	"encoding/binary"
	"net/netip"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// TableName is the name of our table in both families.
const TableName = "fairlead"

// Family is what differs between the two tables. There are two, IP4 and IP6,
// and they are compared as pointers.
type Family struct {
	ID       snapshot.Family
	Name     string // as nft spells it: "ip", "ip6"
	AddrLen  int    // bytes
	addr     Field
	icmpName string
	icmp     byte // protocol number
}

// The two families, and both in the order in which their tables are written.
var (
	IP4      = &Family{snapshot.IPv4, "ip", 4, Field{"ipv4_addr", 7, 4}, "icmp", 1}
	IP6      = &Family{snapshot.IPv6, "ip6", 16, Field{"ipv6_addr", 8, 16}, "icmpv6", 58}
	Families = []*Family{IP4, IP6}
)

// FamilyOf returns the Family of an address family.
func FamilyOf(id snapshot.Family) *Family {
	if id == IP6.ID {
		return IP6
	}
	return IP4
}

func (f *Family) String() string { return f.Name }

// has reports whether addr is of this family.
func (f *Family) has(addr netip.Addr) bool { return addr.Unmap().BitLen() == 8*f.AddrLen }

// Field is one part of a set's key or data: nft's name and number of its type,
// and its length in bytes.
type Field struct {
	Name string
	Type uint32
	Len  int
}

// The fields that both families have.
var (
	FieldLink    = Field{"ifname", 41, 16}
	fieldProto   = Field{"inet_proto", 12, 1}
	fieldService = Field{"inet_service", 13, 2}
)

// padded is the length of a field in a concatenation: registers have 4 bytes.
func (f Field) padded() int { return (f.Len + 3) &^ 3 }

// Keys and data are kept as strings of the bytes that the kernel holds.

func addrKey(b []byte, a netip.Addr) []byte { return append(b, a.Unmap().AsSlice()...) }

func protoKey(b []byte, p snapshot.Protocol) []byte { return append(b, byte(p), 0, 0, 0) }

func portKey(b []byte, port uint16) []byte {
	return append(binary.BigEndian.AppendUint16(b, port), 0, 0)
}

func bytesOf(a netip.Addr) string { return string(a.Unmap().AsSlice()) }

// addrOf reads an address at the start of s.
func (f *Family) addrOf(s string) netip.Addr {
	a, _ := netip.AddrFromSlice([]byte(s[:f.AddrLen]))
	return a
}

func portOf(s string) uint16 { return binary.BigEndian.Uint16([]byte(s[:2])) }
