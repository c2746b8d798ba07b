package nftevents

import (
	"bytes"
	"slices"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// event is a message of a datagram of events, about an element of a table.
func event(sender uint32, family byte, table string) []byte {
	attributes, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_SET_ELEM_LIST_TABLE, Data: append([]byte(table), 0)}, {Type: unix.NFTA_SET_ELEM_LIST_SET, Data: []byte("a set\x00")},
	})
	if err != nil {
		panic(err)
	}
	m := netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWSETELEM, PID: sender},
		Data:   append([]byte{family, 0, 0, 0}, attributes...),
	}
	m.Header.Length = uint32(16 + len(m.Data))
	data, err := m.MarshalBinary()
	if err != nil {
		panic(err)
	}
	return data
}

// What others write to our tables passes the filter, wherever it is in a datagram, and
// what they write to theirs does not, as far as the filter looks.
func TestFilter(t *testing.T) {
	const me, other, ip, ip6, inet = 7, 8, unix.NFPROTO_IPV4, unix.NFPROTO_IPV6, unix.NFPROTO_INET
	vm, err := bpf.NewVM(filter(me, []uint8{ip, ip6}))
	if err != nil {
		t.Fatal(err)
	}
	theirs := func(n int) []byte {
		return bytes.Repeat(slices.Concat(event(other, ip, "f"), event(other, ip6, "a-table-of-others")), n)
	}
	for _, tc := range []struct {
		what     string
		datagram []byte
		passes   bool
	}{
		{"ours, by others", event(other, ip, "fairlead"), true},
		{"ours for IPv6", event(other, ip6, "fairlead"), true},
		{"ours, by ourselves", event(me, ip, "fairlead"), false},
		{"of another family", event(other, inet, "fairlead"), false},
		{"of no family: a new generation", event(other, 0, "fairlead"), false},
		{"theirs", theirs(1), false},
		{"a short name", event(other, ip, "f"), false},
		{"a name that begins as ours", event(other, ip, "fairlead-egress"), true},
		{"theirs, as many as the filter looks at but one", theirs(3), false},
		{"theirs before ours", append(theirs(3), event(other, ip, "fairlead")...), true},
		{"ours before theirs", append(event(other, ip, "fairlead"), theirs(30)...), true},
		{"more than the filter looks at, and ours", append(theirs(30), event(other, ip, "fairlead")...), true},
		{"ourselves, to tables of ours and of others", append(event(me, ip, "fairlead"), theirs(1)...), false},
	} {
		n, err := vm.Run(tc.datagram)
		if err != nil || n > 0 != tc.passes {
			t.Errorf("%s: passes %t, %v", tc.what, n > 0, err)
		}
	}
}

// One family is enough, and the kernel's own events can be left out.
func TestFilterOfOneFamily(t *testing.T) {
	vm, err := bpf.NewVM(filter(0, []uint8{unix.NFPROTO_NETDEV}))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		what     string
		datagram []byte
		passes   bool
	}{
		{"ours", event(8, unix.NFPROTO_NETDEV, "fairlead"), true},
		{"behind others", append(event(8, unix.NFPROTO_IPV4, "fairlead"), event(8, unix.NFPROTO_NETDEV, "fairlead")...), true},
		{"of another family", event(8, unix.NFPROTO_IPV4, "fairlead"), false},
		{"theirs", event(8, unix.NFPROTO_NETDEV, "others"), false},
		{"by the kernel itself", event(0, unix.NFPROTO_NETDEV, "fairlead"), false},
	} {
		if n, err := vm.Run(tc.datagram); err != nil || n > 0 != tc.passes {
			t.Errorf("%s: passes %t, %v", tc.what, n > 0, err)
		}
	}
}
