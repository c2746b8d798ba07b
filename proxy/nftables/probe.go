package nftables

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// probeTable is made and removed in one transaction, so nobody ever sees it.
const probeTable = "fairlead-probe"

// Probe implements proxy.Dataplane: it has the kernel check one of each of our
// sets, chains, rules and elements.
func (e *Engine) Probe(ctx context.Context) error {
	if err := e.connect(); err != nil {
		return fmt.Errorf("probe nftables: %w", explain(err))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	b := newBatch(e.conn.seq, 0)
	b.table = probeTable
	for _, l := range e.layouts {
		l.probe(b)
	}
	if err := e.conn.commit(b); err != nil {
		e.Close()
		return fmt.Errorf("probe nftables: %w", needs(err))
	}
	return nil
}

func (l layout) probe(b *batch) {
	s := newShape()
	for _, v := range variants {
		s.grow(balance{v, 2, 0})
		s.grow(balance{v, 2, 1})
	}
	o := l.objects(s)
	b.addTable(l.family, "")
	b.addObjects(l.family, o)
	zero := strings.Repeat("\x00", l.addrLen)
	first, _ := next(zero)
	front := first + "\x06\x00\x00\x00\x00\x01\x00\x00"
	spec := specs(o)
	for _, e := range []element{
		{set: setLocalPods, key: first, end: first},
		linkElement("a*"),
		{set: setSourceAllow, key: front + first, end: front + first},
		{set: mapExternal, key: front, data: "goto " + chainExtCluster, comment: commentExternalIP},
		{set: variant{}.frontends(), key: front, data: "goto " + balance{n: 2, sticky: 1}.String()},
		{set: variant{}.ep(0), key: front, data: first + "\x00\x01\x00\x00"},
	} {
		b.elements(l.family, unix.NFT_MSG_NEWSETELEM, spec[e.set], []element{e})
	}
	b.deleteTable(l.family)
}

// features tells the kernel's build option by a word in the request that failed.
var features = []struct{ word, option string }{
	{"add table", "CONFIG_NF_TABLES, NF_TABLES_IPV4 and NF_TABLES_IPV6"},
	{"dnat", "CONFIG_NFT_NAT"},
	{"masquerade", "CONFIG_NFT_MASQ"},
	{"redirect", "CONFIG_NFT_REDIR"},
	{"reject", "CONFIG_NFT_REJECT"},
	{"fib ", "CONFIG_NFT_FIB_IPV4 and NFT_FIB_IPV6"},
	{"numgen", "CONFIG_NFT_NUMGEN"},
	{"ct ", "CONFIG_NFT_CT"},
	{"add chain", "CONFIG_NFT_NAT and CONFIG_NF_NAT"},
	{setSourceAllow, "ranges in concatenated sets, Linux 5.6"},
}

// needs adds to an error what the kernel lacks, where that can be told.
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
