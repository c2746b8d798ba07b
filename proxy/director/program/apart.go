package program

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// chainApart translates what opens a connection and has a slot of a node that is apart. It is
// before the engine's chain at -105: the first one that translates a packet wins.
const (
	chainApart   = "apart"
	beforeEngine = -106
)

// The map of frontends leads to a chain for their number of endpoints, which chooses one of
// these from the other map.
const (
	mapApart     = "apart-frontends"
	mapEndpoints = "apart-endpoints"
)

func chainSpread(n int) string { return fmt.Sprintf("spread-%d", n) }

// elementsAtOnce is how many elements a message to the kernel has at most: an attribute of
// netlink ends at 64 KiB.
const elementsAtOnce = 500

// apartFrontend is a frontend as the maps have it.
type apartFrontend struct {
	key       []byte // address, protocol and port, each filled up to 4 bytes
	endpoints []netip.AddrPort
}

// apart are those of a family.
func (f helperFamily) apart(list []Frontend) (out []apartFrontend) {
	for _, front := range list {
		if front.VIP.Addr().Is4() != (f.flag == familyIPv4) {
			continue
		}
		key := append(front.VIP.Addr().AsSlice(), front.Proto, 0, 0, 0)
		out = append(out, apartFrontend{append(binary.BigEndian.AppendUint16(key, front.VIP.Port()), 0, 0), front.Apart})
	}
	slices.SortFunc(out, func(a, b apartFrontend) int { return slices.Compare(a.key, b.key) })
	return out
}

// apartRules are those of nodes that are apart. A packet that finds nothing takes the way of
// what this node serves, and without endpoints here that of Masquerade.
func (h helper) apartRules(f helperFamily, list []apartFrontend) (out []helperRule) {
	if len(list) == 0 {
		return nil
	}
	both := h.marks.Serve | h.marks.Reset
	out = append(out, helperRule{chainApart, slices.Concat(
		[]expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, masked(both), equal(host(both)...)}, f.frontend(),
		[]expr.Any{&expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: mapApart, IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT}},
	)})
	var counts []int
	for _, front := range list {
		counts = append(counts, len(front.endpoints))
	}
	slices.Sort(counts)
	for _, n := range slices.Compact(counts) {
		out = append(out, helperRule{chainSpread(n), h.spread(f, n)})
	}
	return out
}

// frontend loads what a frontend is looked up by.
func (f helperFamily) frontend() []expr.Any {
	size := f.kind.Bytes
	return []expr.Any{
		&expr.Payload{DestRegister: unix.NFT_REG32_00, Base: expr.PayloadBaseNetworkHeader, Offset: f.daddr, Len: size},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG32_00 + size/4},
		&expr.Payload{DestRegister: unix.NFT_REG32_00 + size/4 + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// spread translates to one of n endpoints, and has the engine masquerade the packet.
func (h helper) spread(f helperFamily, n int) []expr.Any {
	size := f.kind.Bytes
	return slices.Concat(f.frontend(), []expr.Any{
		&expr.Numgen{Register: unix.NFT_REG32_00 + size/4 + 2, Modulus: uint32(n), Type: unix.NFT_NG_RANDOM},
		&expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: mapEndpoints, IsDestRegSet: true, DestRegister: unix.NFT_REG32_00},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: unix.NFT_REG32_08},
		&expr.Bitwise{SourceRegister: unix.NFT_REG32_08, DestRegister: unix.NFT_REG32_08, Len: 4, Mask: host(^h.marks.Masquerade), Xor: host(h.marks.Masquerade)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: unix.NFT_REG32_08},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: f.proto, RegAddrMin: unix.NFT_REG32_00, RegProtoMin: unix.NFT_REG32_00 + size/4},
	})
}

// addApart adds the maps.
func (f helperFamily) addApart(c *nftables.Conn, t *nftables.Table, list []apartFrontend) error {
	if len(list) == 0 {
		return nil
	}
	key, err := nftables.ConcatSetType(f.kind, nftables.TypeInetProto, nftables.TypeInetService)
	one, err2 := nftables.ConcatSetType(f.kind, nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeMark)
	to, err3 := nftables.ConcatSetType(f.kind, nftables.TypeInetService)
	if err := errors.Join(err, err2, err3); err != nil {
		return err
	}
	var fronts, eps []nftables.SetElement
	for _, front := range list {
		fronts = append(fronts, nftables.SetElement{Key: front.key, VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: chainSpread(len(front.endpoints))}})
		for i, ep := range front.endpoints {
			at := append(binary.BigEndian.AppendUint16(ep.Addr().AsSlice(), ep.Port()), 0, 0)
			eps = append(eps, nftables.SetElement{Key: slices.Concat(front.key, host(uint32(i))), Val: at})
		}
	}
	return errors.Join(
		addSet(c, &nftables.Set{Table: t, Name: mapApart, KeyType: key, DataType: nftables.TypeVerdict, IsMap: true}, fronts),
		addSet(c, &nftables.Set{Table: t, Name: mapEndpoints, KeyType: one, DataType: to, IsMap: true}, eps),
	)
}

func addSet(c *nftables.Conn, s *nftables.Set, elements []nftables.SetElement) error {
	err := c.AddSet(s, nil)
	for part := range slices.Chunk(elements, elementsAtOnce) {
		err = errors.Join(err, c.SetAddElements(s, part))
	}
	return err
}
