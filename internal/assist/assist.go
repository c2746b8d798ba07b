// Package assist gives connections to Services a helper of the kernel's connection
// tracking, by an nftables table of its own for each helper. A helper reads in a
// connection which others belong to it: those of TFTP and FTP have ports of their own.
package assist

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/owntable"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Table is what the name of a table begins with, of family inet. The helper's name follows.
const Table = "fairlead-helper-"

// At is where connections get a helper: an address, protocol and port. The zero Addr
// stands for all addresses of the node, which a node port has.
type At struct {
	Addr     netip.Addr
	Protocol snapshot.Protocol
	Port     uint16
}

func (a At) compare(b At) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
}

// Kernel acts on the kernel. It is used by one goroutine.
type Kernel struct{ netns int }

// New makes a Kernel of the network namespace netns, a file descriptor; 0: the caller's.
func New(netns int) *Kernel { return &Kernel{netns: netns} }

// Sync makes the kernel hold a table for each helper that wants names, and no others. A
// helper that the kernel lacks does not keep the others from working: Sync returns its
// error by the helper's name.
func (k *Kernel) Sync(wants map[snapshot.Helper][]At) (failed map[snapshot.Helper]error) {
	failed = map[snapshot.Helper]error{}
	for _, h := range snapshot.Helpers {
		if err := k.sync(h, wants[h]); err != nil {
			failed[h] = err
		}
	}
	return failed
}

// Cleanup removes the tables that are there.
func (k *Kernel) Cleanup() error {
	return errors.Join(slices.Collect(maps.Values(k.Sync(nil)))...)
}

// sync makes the kernel hold the table of one helper, in one transaction.
func (k *Kernel) sync(h snapshot.Helper, at []At) error {
	own := owntable.Table{Name: Table + string(h), Netns: k.netns}
	c, err := own.Open()
	if err != nil {
		return err
	}
	at = slices.Clone(at)
	slices.SortFunc(at, At.compare)
	at = slices.Compact(at)
	var chains map[string]int
	if len(at) > 0 {
		chains = map[string]int{"prerouting": 1 + len(at), "output": 1 + len(at)}
	}
	ours, err := own.Intact(c, chains, mark(h, at))
	if err != nil || ours {
		return err
	}
	own.Delete(c)
	if len(at) > 0 {
		fill(c, c.AddTable(own.Kernel()), h, at)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("helper %s: %w", h, err)
	}
	return nil
}

// beforeTranslation is the place of the chains: connection tracking knows the connection,
// and the packet still has the address that the client dialled.
const beforeTranslation = -115

// fill adds what is in the table.
func fill(c *nftables.Conn, t *nftables.Table, h snapshot.Helper, at []At) {
	c.AddObj(&nftables.NamedObj{Table: t, Name: string(h), Type: nftables.ObjTypeCtHelper, Obj: &expr.CtHelper{
		Name: string(h), L3Proto: unix.NFPROTO_INET, L4Proto: uint8(h.Protocol()),
	}})
	for name, hook := range map[string]*nftables.ChainHook{"prerouting": nftables.ChainHookPrerouting, "output": nftables.ChainHookOutput} {
		ch := c.AddChain(&nftables.Chain{Name: name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityRef(beforeTranslation)})
		for _, r := range rules(h, at) {
			c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: r, UserData: []byte(mark(h, at))})
		}
	}
}

// rules are those of each chain. A connection gets its helper with its first packet.
func rules(h snapshot.Helper, at []At) [][]expr.Any {
	out := [][]expr.Any{{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: host(expr.CtStateBitNEW), Xor: host(0)}, is(host(0)...),
		&expr.Verdict{Kind: expr.VerdictAccept},
	}}
	for _, a := range at {
		r := []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, is(byte(a.Protocol)),
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, is(binary.BigEndian.AppendUint16(nil, a.Port)...),
		}
		out = append(out, append(append(r, to(a.Addr)...), &expr.Objref{Type: int(nftables.ObjTypeCtHelper), Name: string(h)}))
	}
	return out
}

// to matches packets to an address, or to all those of the node.
func to(a netip.Addr) []expr.Any {
	if !a.IsValid() {
		return []expr.Any{&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true}, is(host(unix.RTN_LOCAL)...)}
	}
	family, offset := byte(unix.NFPROTO_IPV6), uint32(24)
	if a.Is4() {
		family, offset = unix.NFPROTO_IPV4, 16
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, is(family),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(a.BitLen() / 8)}, is(a.AsSlice()...),
	}
}

func is(data ...byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

func host(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

// version is of the rules that a list of places is made to.
const version = 1

// mark names at.
func mark(h snapshot.Helper, at []At) string {
	return owntable.Mark(fmt.Append(nil, version, h, at))
}
