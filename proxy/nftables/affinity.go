package nftables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/proxy"
)

// stale are the clients of one Frontend that an affinity set remembers for a
// slot that no longer means the same endpoint.
type stale struct {
	family *family
	set    string // an affinity set
	key    string // of the Frontend: what the set's keys end with
}

// staleClients are the slots of changed Frontends whose clients must be
// forgotten.
func staleClients(changes []change) []stale {
	var out []stale
	for _, c := range changes {
		if c.old == nil || c.old.Affinity == 0 {
			continue
		}
		now := &placed{Frontend: c.old.Frontend}
		if c.new != nil && c.new.Affinity > 0 {
			now = c.new
		}
		np := c.old.Kind == proxy.NodePort
		out = c.old.staleSlots(out, variant{np, false}, c.old.cluster, now.cluster)
		out = c.old.staleSlots(out, variant{np, true}, c.old.local, now.local)
	}
	return out
}

func (p *placed) staleSlots(out []stale, v variant, old, now []slot) []stale {
	f := ip4
	if p.Family == ip6.id {
		f = ip6
	}
	for i, s := range old {
		if i >= len(now) || now[i].ep != s.ep {
			out = append(out, stale{f, v.affinity(i), p.key()})
		}
	}
	return out
}

// purgeTries bounds how often a purge is tried: an element that times out
// between our look and our delete fails the transaction.
const purgeTries = 5

// purge forgets stale clients and tells whether there were any. It is a
// transaction of its own, after the one that moved the endpoints: until then
// such a client is sent to a live endpoint, only not to the one that it was
// sent to before.
func (c *conn) purge(ctx context.Context, all []stale, specs map[*family]map[string]setSpec) (bool, error) {
	var err error
	for range purgeTries {
		var found []clients
		if found, err = c.staleElements(ctx, all, specs); err != nil || len(found) == 0 {
			return false, err
		}
		b := newBatch(c.seq, 0)
		for _, f := range found {
			b.elements(f.family, unix.NFT_MSG_DELSETELEM, specs[f.family][f.set], f.elems)
		}
		if err = c.commit(b); !errors.Is(err, unix.ENOENT) {
			break
		}
	}
	return err == nil, err
}

// clients are elements of one affinity set.
type clients struct {
	*family
	set   string
	elems []element
}

// staleElements reads what all means.
func (c *conn) staleElements(ctx context.Context, all []stale, specs map[*family]map[string]setSpec) ([]clients, error) {
	keys := map[*family]map[string][]string{ip4: {}, ip6: {}}
	for _, s := range all {
		if _, ok := specs[s.family][s.set]; ok {
			keys[s.family][s.set] = append(keys[s.family][s.set], s.key)
		}
	}
	var out []clients
	for _, f := range families {
		for _, set := range slices.Sorted(maps.Keys(keys[f])) {
			h := &held{}
			if err := c.readElements(ctx, f, h, set, heldSet{}); err != nil {
				return nil, fmt.Errorf("read %s: %w", set, err)
			}
			h.elements = slices.DeleteFunc(h.elements, func(e element) bool {
				return len(e.key) < f.addrLen || !slices.Contains(keys[f][set], e.key[f.addrLen:])
			})
			if len(h.elements) > 0 {
				out = append(out, clients{f, set, h.elements})
			}
		}
	}
	return out, nil
}
