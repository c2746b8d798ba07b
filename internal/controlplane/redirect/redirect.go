// Package redirect has a node's kernel take packets to the API server's addresses to the
// node's own kube-apiserver, by an nftables table of ours. The addresses are on no link.
package redirect

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/owntable"
)

// Table is the name of the table, of family inet.
const Table = "fairlead-control-plane"

// Lifetime is how long the kernel redirects after the last Sync. It is longer than that of
// a lease: a node that answers for an address has to serve it.
const Lifetime = 40 * time.Second

// priority is before that of kube-proxy's chains, and of the agents'.
const priority = -110

// Redirect is one address that leads to this node.
type Redirect struct {
	VIP  netip.AddrPort
	Node netip.Addr // of the VIP's family; the port stays the same
}

// Compare orders Redirects by VIP.
func (r Redirect) Compare(o Redirect) int { return r.VIP.Compare(o.VIP) }

// Redirects act on the kernel. They are used by one goroutine.
type Redirects struct {
	table    owntable.Table
	lifetime time.Duration
}

// New makes Redirects of the network namespace netns, a file descriptor; 0: the caller's.
func New(netns int) *Redirects {
	return &Redirects{owntable.Table{Name: Table, Netns: netns}, Lifetime}
}

// Sync makes the kernel redirect want and nothing else, for Lifetime from now, in one
// transaction. It may be called again with the same. After an error the kernel redirects as
// before, and no longer than it would have.
func (r *Redirects) Sync(want []Redirect) error {
	c, err := r.table.Open()
	if err != nil {
		return err
	}
	n := len(rules())
	ours, err := r.table.Intact(c, map[string]int{prerouting: n, output: n}, mark())
	if err != nil {
		return err
	}
	t := r.table.Kernel()
	if !ours {
		r.table.Delete(c)
		c.AddTable(t)
	}
	for _, f := range families {
		s := f.set(t)
		if ours {
			c.FlushSet(s)
		} else if err := c.AddSet(s, nil); err != nil {
			return fmt.Errorf("table inet %s: %w", Table, err)
		}
		if elems := f.elements(want, r.lifetime); len(elems) > 0 {
			if err := c.SetAddElements(s, elems); err != nil {
				return fmt.Errorf("table inet %s: %w", Table, err)
			}
		}
	}
	if !ours {
		addChains(c, t)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("table inet %s: %w", Table, err)
	}
	return nil
}

// Cleanup removes the table, if it is there.
func (r *Redirects) Cleanup() error { return r.table.Remove() }

// The chains: packets of others, and the node's own.
const (
	prerouting = "prerouting"
	output     = "output"
)

func addChains(c *nftables.Conn, t *nftables.Table) {
	accept := nftables.ChainPolicyAccept
	for name, hook := range map[string]*nftables.ChainHook{prerouting: nftables.ChainHookPrerouting, output: nftables.ChainHookOutput} {
		ch := c.AddChain(&nftables.Chain{Name: name, Table: t, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: nftables.ChainPriorityRef(priority), Policy: &accept})
		for _, exprs := range rules() {
			c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: exprs, UserData: []byte(mark())})
		}
	}
}

// family is what differs between the two families.
type family struct {
	name        string
	proto       byte
	kind        nftables.SetDatatype
	daddr, size uint32 // in the network header
}

var families = []family{
	{"vips4", unix.NFPROTO_IPV4, nftables.TypeIPAddr, 16, 4},
	{"vips6", unix.NFPROTO_IPV6, nftables.TypeIP6Addr, 24, 16},
}

// set maps an address and port to the node's address.
func (f family) set(t *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: t, Name: f.name, KeyType: nftables.MustConcatSetType(f.kind, nftables.TypeInetService), DataType: f.kind,
		IsMap: true, Concatenation: true, HasTimeout: true}
}

func (f family) elements(want []Redirect, lifetime time.Duration) (out []nftables.SetElement) {
	for _, r := range want {
		if r.VIP.Addr().BitLen() == int(f.size)*8 && r.Node.BitLen() == int(f.size)*8 {
			key := append(r.VIP.Addr().AsSlice(), append(binaryutil.BigEndian.PutUint16(r.VIP.Port()), 0, 0)...)
			out = append(out, nftables.SetElement{Key: key, Val: r.Node.AsSlice(), Timeout: lifetime})
		}
	}
	return out
}

// rules are the rules of each chain. Each is there twice: a packet may look for an address
// while the transaction that renews it takes the old element out, and the second look finds
// the new one. A first packet that is not redirected would leave its whole connection lost.
func rules() (out [][]expr.Any) {
	for _, f := range families {
		r := f.rule()
		out = append(out, r, r)
	}
	return out
}

func (f family) rule() []expr.Any {
	const key = unix.NFT_REG32_00
	is := func(b ...byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: key, Data: b} }
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: key}, is(f.proto),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: key}, is(unix.IPPROTO_TCP),
		&expr.Payload{DestRegister: key, Base: expr.PayloadBaseNetworkHeader, Offset: f.daddr, Len: f.size},
		&expr.Payload{DestRegister: key + f.size/4, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: key, SetName: f.name, IsDestRegSet: true, DestRegister: key},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.proto), RegAddrMin: key},
	}
}

// mark names this version's rules.
func mark() string {
	var text []byte
	for _, exprs := range rules() {
		for _, e := range exprs {
			data, err := expr.Marshal(byte(nftables.TableFamilyINet), e)
			if err != nil {
				panic(fmt.Sprintf("a rule of table %s: %v", Table, err)) // rules are constants
			}
			text = append(text, data...)
		}
	}
	return owntable.Mark(text)
}
