// Package astray has ICMP errors that went astray reach the node that has their connection,
// by two nftables tables of ours. A router that spreads the packets to a VIP over several
// nodes need not send an error to the node that it sends the connection to. A node that does
// not know the connection passes the error on to the other nodes.
package astray

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"

	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/owntable"
)

// Table is the name of the tables, of the families ip and ip6.
const Table = "fairlead-errors"

// MostNodes is how many nodes of a family an error is passed on to at most. Each of them gets
// a copy.
const MostNodes = 63

// Wants is between which nodes errors are passed on, and about which addresses. Addresses of
// both families may be in each list.
type Wants struct {
	Own   []netip.Addr // this node's: the first of a family is the source of what it passes on
	Nodes []netip.Addr // other nodes': MostNodes of a family at most
	VIPs  []netip.Addr // sorted, without duplicates
}

// of is the part of w that a family has. It is empty if there is nobody to pass errors on to.
func (w Wants) of(f family) (out Wants) {
	not := func(a netip.Addr) bool { return a.BitLen() != int(f.size)*8 }
	out.Own = slices.DeleteFunc(slices.Clone(w.Own), not)
	out.Nodes = slices.DeleteFunc(slices.Clone(w.Nodes), not)
	out.VIPs = slices.DeleteFunc(slices.Clone(w.VIPs), not)
	if len(out.Own)*len(out.Nodes)*len(out.VIPs) == 0 {
		return Wants{}
	}
	out.Own = out.Own[:1]
	return out
}

// Strays acts on the kernel. It is used by one goroutine.
type Strays struct {
	netns int
	held  map[string][]netip.Addr // the VIPs that this process wrote last, by family
}

// New makes a Strays of the network namespace netns, a file descriptor; 0: the caller's.
func New(netns int) *Strays { return &Strays{netns, map[string][]netip.Addr{}} }

// Sync makes the kernel hold w, a table at a time, each in one transaction. After an error a
// table is as it was before. If it holds w already, nothing is written. A kernel may lack what
// it takes (CONFIG_NFT_DUP_IPV4, CONFIG_NFT_DUP_IPV6): errors are then dropped as without us.
func (r *Strays) Sync(w Wants) error {
	var errs []error
	for _, f := range families {
		if err := r.sync(f, w.of(f)); err != nil {
			errs = append(errs, fmt.Errorf("table %s %s: %w", f.name, Table, err))
		}
	}
	return errors.Join(errs...)
}

// Cleanup removes the tables, if they are there.
func (r *Strays) Cleanup() error { return r.Sync(Wants{}) }

func (r *Strays) sync(f family, w Wants) error {
	own := owntable.Table{Name: Table, Family: f.nft, Netns: r.netns}
	c, err := own.Open()
	if err != nil {
		return err
	}
	ours, err := own.Intact(c, f.count(w), w.mark())
	if err != nil {
		return err
	}
	held, known := r.held[f.name]
	delete(r.held, f.name) // not known, should there be an error
	switch {
	case ours && known:
		err = f.change(c, held, w.VIPs)
	case ours && len(w.VIPs) == 0: // there is no table
	default:
		own.Delete(c)
		err = f.write(c, w)
	}
	if err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return err
	}
	r.held[f.name] = w.VIPs
	return nil
}

// mark names all of w but the VIPs, which come and go one by one.
func (w Wants) mark() string { return owntable.Mark(fmt.Append(nil, version, w.Own, w.Nodes)) }

// change appends the VIPs that come and go.
func (f family) change(c *nftables.Conn, had, wants []netip.Addr) error {
	var gone, come []netip.Addr
	for was, is := range diff.Changed(had, wants, netip.Addr.Compare) {
		if was != nil {
			gone = append(gone, *was)
		}
		if is != nil {
			come = append(come, *is)
		}
	}
	if err := chunks(gone, func(some []nftables.SetElement) error { return c.SetDeleteElements(f.set(setVIPs), some) }); err != nil {
		return err
	}
	return f.add(c, setVIPs, come)
}

// write appends the table, unless w is empty.
func (f family) write(c *nftables.Conn, w Wants) error {
	if len(w.VIPs) == 0 {
		return nil
	}
	c.AddTable(f.table())
	for set, addrs := range map[string][]netip.Addr{setVIPs: w.VIPs, setNodes: w.Nodes} {
		if err := c.AddSet(f.set(set), nil); err != nil {
			return err
		}
		if err := f.add(c, set, addrs); err != nil {
			return err
		}
	}
	// A rule can lead only to a chain that is there.
	for _, ch := range chains {
		c.AddChain(&nftables.Chain{Table: f.table(), Name: ch.name, Type: ch.kind, Hooknum: ch.hook, Priority: ch.priority})
	}
	for name, rules := range f.rules(w) {
		for _, exprs := range rules {
			c.AddRule(&nftables.Rule{Table: f.table(), Chain: &nftables.Chain{Name: name}, Exprs: exprs, UserData: []byte(w.mark())})
		}
	}
	return nil
}

func (f family) add(c *nftables.Conn, set string, addrs []netip.Addr) error {
	return chunks(addrs, func(some []nftables.SetElement) error { return c.SetAddElements(f.set(set), some) })
}

// chunks gives do some addresses at a time: a list in one message loses its tail beyond 64 KiB.
func chunks(addrs []netip.Addr, do func([]nftables.SetElement) error) error {
	for some := range slices.Chunk(addrs, 500) {
		var elements []nftables.SetElement
		for _, a := range some {
			elements = append(elements, nftables.SetElement{Key: a.AsSlice()})
		}
		if err := do(elements); err != nil {
			return err
		}
	}
	return nil
}
