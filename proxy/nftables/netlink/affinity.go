package netlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/proxy/nftables"
)

// client is one that an affinity set remembers, and is to be forgotten there. If to is
// not empty, that set remembers it instead.
type client struct {
	family              *nftables.Family
	set, key, to        string
	timeout, expiration uint64 // in milliseconds: all of it, and what is left
}

// clients reads who is remembered of what moves by patches. A table that is made
// again forgets everybody.
func (c *conn) clients(ctx context.Context, patches []*nftables.Patch) ([]client, error) {
	var out []client
	for _, p := range patches {
		if p.Main().AddTable {
			continue
		}
		by := map[string][]nftables.Move{} // by set
		for _, m := range p.Moves() {
			by[m.From] = append(by[m.From], m)
		}
		for set, moves := range by {
			all, err := c.remembered(ctx, p.Family, set)
			if err != nil {
				return nil, err
			}
			for cl := range all {
				i := slices.IndexFunc(moves, func(m nftables.Move) bool { return m.Key == cl.key[p.AddrLen:] })
				if i >= 0 {
					cl.to = moves[i].To
					out = append(out, cl)
				}
			}
		}
	}
	return out, nil
}

// remembered reads one affinity set, which need not be there. Others may write to
// other tables meanwhile, and packets to the set itself.
func (c *conn) remembered(ctx context.Context, f *nftables.Family, set string) (map[client]bool, error) {
	out := map[client]bool{}
	err := c.dump(ctx, unix.NFT_MSG_GETSETELEM, f,
		func(b *batch) {
			b.str(unix.NFTA_SET_ELEM_LIST_TABLE, nftables.TableName)
			b.str(unix.NFTA_SET_ELEM_LIST_SET, set)
		},
		func(m message) error {
			for _, v := range attributes(attribute(m.data, unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
				e, _ := parseElement(v, nftables.SetType{})
				if len(e.Key) < f.AddrLen {
					continue
				}
				out[client{family: f, set: set, key: e.Key,
					timeout: milliseconds(v, unix.NFTA_SET_ELEM_TIMEOUT), expiration: milliseconds(v, unix.NFTA_SET_ELEM_EXPIRATION)}] = true
			}
			return nil
		})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("read %s: %w", set, err)
	}
	return out, nil
}

func milliseconds(element []byte, typ uint16) uint64 {
	if b := attribute(element, typ); len(b) == 8 {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// remember appends those of clients that move within one family.
func (b *batch) remember(f *nftables.Family, clients []client) {
	for _, cl := range clients {
		if cl.family != f || cl.to == "" || cl.expiration == 0 {
			continue
		}
		end := b.message(nft(unix.NFT_MSG_NEWSETELEM), unix.NLM_F_CREATE, nfproto(f), "add a client to "+cl.to)
		b.str(unix.NFTA_SET_ELEM_LIST_TABLE, b.table)
		b.str(unix.NFTA_SET_ELEM_LIST_SET, cl.to)
		list := b.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		n := b.nest(unix.NFTA_LIST_ELEM)
		b.value(unix.NFTA_SET_ELEM_KEY, cl.key)
		b.attr(unix.NFTA_SET_ELEM_TIMEOUT, binary.BigEndian.AppendUint64(nil, cl.timeout))
		b.attr(unix.NFTA_SET_ELEM_EXPIRATION, binary.BigEndian.AppendUint64(nil, cl.expiration))
		b.close(n)
		b.close(list)
		end()
	}
}

// forgetTries bounds how often clients are tried to be forgotten: one that times out
// between our look and our delete fails the transaction.
const forgetTries = 5

// place is where a client is, or shall be, remembered.
type place struct {
	family   *nftables.Family
	set, key string
}

// forget removes clients from the sets where they were, but for those that moved
// there. It is a transaction of its own, after the one that moved the endpoints: a
// client that is in two sets is found in that of the lower slot, where it moved to.
func (c *conn) forget(ctx context.Context, clients []client) error {
	left := map[place]bool{}
	for _, cl := range clients {
		left[place{cl.family, cl.set, cl.key}] = true
	}
	for _, cl := range clients {
		delete(left, place{cl.family, cl.to, cl.key})
	}
	var err error
	for range forgetTries {
		if len(left) == 0 {
			return nil
		}
		b := newBatch(c.seq)
		by := map[place][]nftables.Element{}
		for p := range left {
			set := place{family: p.family, set: p.set}
			by[set] = append(by[set], nftables.Element{Key: p.key})
		}
		for p, elems := range by {
			b.elements(p.family, unix.NFT_MSG_DELSETELEM, nftables.Set{Name: p.set}, elems)
		}
		if err = c.commit(b); !errors.Is(err, unix.ENOENT) {
			break
		}
		if err := c.drop(ctx, left, by); err != nil {
			return err
		}
	}
	return err
}

// drop takes those clients out of left that are not in their sets any more.
func (c *conn) drop(ctx context.Context, left map[place]bool, sets map[place][]nftables.Element) error {
	for s := range sets {
		all, err := c.remembered(ctx, s.family, s.set)
		if err != nil {
			return err
		}
		there := map[string]bool{}
		for cl := range all {
			there[cl.key] = true
		}
		maps.DeleteFunc(left, func(p place, _ bool) bool { return p.family == s.family && p.set == s.set && !there[p.key] })
	}
	return nil
}
