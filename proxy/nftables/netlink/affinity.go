package netlink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/proxy/nftables"
)

// purgeTries bounds how often a purge is tried: an element that times out
// between our look and our delete fails the transaction.
const purgeTries = 5

// purge forgets the clients of Leftovers. It is a transaction of its own, after the one
// that moved the endpoints. Until then such a client is sent to a live endpoint, which
// is another than before.
func (c *conn) purge(ctx context.Context, left map[*nftables.Family]map[string][]string, r *nftables.Ruleset) error {
	var err error
	for range purgeTries {
		var found []clients
		if found, err = c.readClients(ctx, left, r); err != nil || len(found) == 0 {
			return err
		}
		b := newBatch(c.seq)
		for _, f := range found {
			b.elements(f.family, unix.NFT_MSG_DELSETELEM, f.set, f.elems)
		}
		if err = c.commit(b); !errors.Is(err, unix.ENOENT) {
			break
		}
	}
	return err
}

// clients are elements of one affinity set.
type clients struct {
	family *nftables.Family
	set    nftables.Set
	elems  []nftables.Element
}

// readClients reads the clients that the kernel remembers of left, in the affinity
// sets that r still has.
func (c *conn) readClients(ctx context.Context, left map[*nftables.Family]map[string][]string, r *nftables.Ruleset) ([]clients, error) {
	var out []clients
	for _, f := range nftables.Families {
		for _, name := range slices.Sorted(maps.Keys(left[f])) {
			set, ok := r.Layouts[f].Set(name)
			if !ok {
				continue
			}
			elems, err := c.readElements(ctx, nil, f, name, nftables.SetType{})
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", name, err)
			}
			elems = slices.DeleteFunc(elems, func(e nftables.Element) bool {
				return len(e.Key) < f.AddrLen || !slices.Contains(left[f][name], e.Key[f.AddrLen:])
			})
			if len(elems) > 0 {
				out = append(out, clients{f, set, elems})
			}
		}
	}
	return out, nil
}
