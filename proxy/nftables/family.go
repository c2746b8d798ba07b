package nftables

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// tableName is the name of our table in both families.
const tableName = "fairlead"

// family is what differs between the two tables.
type family struct {
	id           snapshot.Family
	nf           byte   // NFPROTO_*
	name         string // as nft spells it
	addrLen      int    // bytes
	saddr, daddr uint32 // offsets in the network header
	addr         field
	icmp         byte // protocol number of ICMP
	icmpName     string
	echoRequest  byte // ICMP type
	portUnreach  byte // ICMP code
}

var (
	ip4 = &family{
		id: snapshot.IPv4, nf: unix.NFPROTO_IPV4, name: "ip", addrLen: 4, saddr: 12, daddr: 16,
		addr: field{"ipv4_addr", 7, 4}, icmp: unix.IPPROTO_ICMP, icmpName: "icmp", echoRequest: 8, portUnreach: 3,
	}
	ip6 = &family{
		id: snapshot.IPv6, nf: unix.NFPROTO_IPV6, name: "ip6", addrLen: 16, saddr: 8, daddr: 24,
		addr: field{"ipv6_addr", 8, 16}, icmp: unix.IPPROTO_ICMPV6, icmpName: "icmpv6", echoRequest: 128, portUnreach: 4,
	}
	families = []*family{ip4, ip6}
)

func (f *family) String() string { return f.name }

// has tells whether addr is of this family.
func (f *family) has(addr netip.Addr) bool { return addr.Unmap().BitLen() == 8*f.addrLen }

// field is one part of a set's key or data, with nft's name and number of its
// type and its length in bytes.
type field struct {
	name string
	typ  uint32
	len  int
}

var (
	fieldProto   = field{"inet_proto", 12, 1}
	fieldService = field{"inet_service", 13, 2}
	fieldLink    = field{"ifname", 41, 16}
)

// padded is the length of a field in a concatenation: registers have 4 bytes.
func (f field) padded() int { return (f.len + 3) &^ 3 }

// Keys and data are kept as strings of the bytes that the kernel holds.

func addrKey(b []byte, a netip.Addr) []byte { return append(b, a.Unmap().AsSlice()...) }

func protoKey(b []byte, p snapshot.Protocol) []byte { return append(b, byte(p), 0, 0, 0) }

func portKey(b []byte, port uint16) []byte {
	return append(binary.BigEndian.AppendUint16(b, port), 0, 0)
}

// addrOf reads an address at the start of s.
func (f *family) addrOf(s string) netip.Addr {
	a, _ := netip.AddrFromSlice([]byte(s[:f.addrLen]))
	return a
}

func portOf(s string) uint16 { return binary.BigEndian.Uint16([]byte(s[:2])) }
