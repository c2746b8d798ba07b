package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// families are the nftables families by name.
var families = map[string]byte{"ip": unix.NFPROTO_IPV4, "ip6": unix.NFPROTO_IPV6, "inet": unix.NFPROTO_INET}

// tableHandle is NFTA_TABLE_HANDLE, which package unix lacks.
const tableHandle = 4

// attribute is one of a request: a name.
type attribute struct {
	typ  uint16
	text string
}

// table looks for an nftables table. kube-proxy writes the rules of a chain again when it
// starts and at each full sync, so the first of them has another handle then.
func table(family, name string) (print string, there bool, err error) {
	got, err := first(unix.NFT_MSG_GETTABLE, 0, families[family], attribute{unix.NFTA_TABLE_NAME, name})
	if got == nil || err != nil {
		return "", false, err
	}
	rule, err := firstRule(family, name, "nat-prerouting")
	return fmt.Sprint(handle(got, tableHandle), rule), true, err
}

// chain looks for a chain, which iptables-nft keeps in an nftables table.
func chain(family, table, name string) (print string, there bool, err error) {
	got, err := first(unix.NFT_MSG_GETCHAIN, 0, families[family], attribute{unix.NFTA_CHAIN_TABLE, table}, attribute{unix.NFTA_CHAIN_NAME, name})
	if got == nil || err != nil {
		return "", false, err
	}
	rule, err := firstRule(family, table, name)
	return fmt.Sprint(handle(got, unix.NFTA_CHAIN_HANDLE), rule), true, err
}

// firstRule returns the handle of the first rule in a chain, 0 if there is none. A chain
// may have ten thousand rules: the rest is not read.
func firstRule(family, table, chain string) (uint64, error) {
	got, err := first(unix.NFT_MSG_GETRULE, netlink.Dump, families[family],
		attribute{unix.NFTA_RULE_TABLE, table}, attribute{unix.NFTA_RULE_CHAIN, chain})
	if got == nil || err != nil {
		return 0, err
	}
	return handle(got, unix.NFTA_RULE_HANDLE), nil
}

// handle returns the attribute of an answer that has the object's handle, 0 without one.
func handle(answer []byte, typ uint16) uint64 {
	attrs, err := netlink.NewAttributeDecoder(answer)
	if err != nil {
		return 0
	}
	attrs.ByteOrder = binary.BigEndian
	for attrs.Next() {
		if attrs.Type() == typ {
			return attrs.Uint64()
		}
	}
	return 0
}

// first asks the kernel's nftables and returns the attributes of the first object of the
// answer; nil if there is no such object, or no nftables.
func first(typ int, flags netlink.HeaderFlags, family byte, attrs ...attribute) (_ []byte, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	req, err := request(typ, flags, family, attrs)
	if err != nil {
		return nil, err
	}
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	buf := make([]byte, 1<<16) // more than the kernel puts into one datagram
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return nil, os.NewSyscallError("recvfrom", err)
	}
	return firstOf(buf[:n])
}

// request is a message to the kernel.
func request(typ int, flags netlink.HeaderFlags, family byte, attrs []attribute) ([]byte, error) {
	enc := netlink.NewAttributeEncoder()
	for _, a := range attrs {
		enc.String(a.typ, a.text)
	}
	body, err := enc.Encode()
	if err != nil {
		return nil, err
	}
	m := netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | typ), Flags: netlink.Request | flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, body...),
	}
	m.Header.Length = uint32(unix.NLMSG_HDRLEN + len(m.Data))
	return m.MarshalBinary()
}

// generic is the size of struct nfgenmsg.
const generic = 4

// firstOf reads the first message of a datagram.
func firstOf(data []byte) ([]byte, error) {
	if len(data) < unix.NLMSG_HDRLEN+generic {
		return nil, errors.New("the kernel's answer is cut off")
	}
	length, typ := binary.NativeEndian.Uint32(data), binary.NativeEndian.Uint16(data[4:])
	body := data[unix.NLMSG_HDRLEN:min(int(length), len(data))]
	switch typ {
	case unix.NLMSG_DONE:
		return nil, nil // a dump of nothing
	case unix.NLMSG_ERROR:
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
		if errno == 0 || errno == unix.ENOENT || errno == unix.EAFNOSUPPORT || errno == unix.EOPNOTSUPP {
			return nil, nil // no such object, or a kernel without such ones
		}
		return nil, errno
	}
	return body[generic:], nil
}
