package netlink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// probeTable is made and removed in one transaction, so nobody ever sees it.
const probeTable = "fairlead-probe"

// Probe implements proxy.Dataplane: it has the kernel check one of each of our
// sets, chains, rules and elements. A kernel that takes them for one family alone, because
// it lacks a module of the other, serves that family from then on.
func (e *Engine) Probe(ctx context.Context) error {
	e.families = nftables.Families
	both := e.probe(ctx)
	if both == nil || ctx.Err() != nil {
		return both
	}
	// A kernel without a module of one family refused the whole engine.
	for _, f := range nftables.Families {
		e.families = []*nftables.Family{f}
		if e.probe(ctx) == nil {
			e.opt.Log.Warn("this node forwards one family alone: the kernel takes no rules for the other", "forwards", f.ID, "error", both)
			return nil
		}
	}
	e.families = nftables.Families
	return both
}

// Serves reports whether the kernel has rules for a family. Probe finds it out.
func (e *Engine) Serves(family snapshot.Family) bool {
	return slices.ContainsFunc(e.families, func(f *nftables.Family) bool { return f.ID == family })
}

// probe is Probe of e.families.
func (e *Engine) probe(ctx context.Context) error {
	e.disconnect()
	if err := e.connect(); err != nil {
		return fmt.Errorf("probe nftables: %w", explain(err))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	b := newBatch(e.conn.seq)
	b.table = probeTable
	for _, f := range e.families {
		b.step(nftables.Sample(f, e.opt.Mark), nftables.Main)
		b.deleteTable(f)
	}
	if err := e.conn.commit(b); err != nil {
		e.Close()
		return fmt.Errorf("probe nftables: %w", needs(err))
	}
	return nil
}

// features names the kernel's build option by a word in the request that failed.
var features = []struct{ word, option string }{
	{"add table", "CONFIG_NF_TABLES, NF_TABLES_IPV4 and NF_TABLES_IPV6"},
	{"dnat", "CONFIG_NFT_NAT"},
	{"masquerade", "CONFIG_NFT_MASQ"},
	{"redirect", "CONFIG_NFT_REDIR"},
	{"reject", "CONFIG_NFT_REJECT"},
	{"fib ", "CONFIG_NFT_FIB_IPV4 and NFT_FIB_IPV6"},
	{"numgen", "CONFIG_NFT_NUMGEN"},
	{"jhash", "CONFIG_NFT_HASH"},
	{"limit ", "CONFIG_NFT_LIMIT"},
	{"ct ", "CONFIG_NFT_CT"},
	{"add chain", "CONFIG_NFT_NAT and CONFIG_NF_NAT"},
	{nftables.SetSourceAllow, "ranges in concatenated sets, Linux 5.6"},
}

// needs adds to an error what the kernel lacks, if a word in it says so.
func needs(err error) error {
	if errors.Is(err, unix.EPERM) {
		return err
	}
	for _, f := range features {
		if strings.Contains(err.Error(), f.word) {
			return fmt.Errorf("%w (this kernel may lack %s)", err, f.option)
		}
	}
	return err
}
