package l2

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// answers is the kernel's table of what it answers for: see rules.go.
type answers struct {
	owner    Owner
	netns    int           // file descriptor of a network namespace; 0: that of the caller
	lifetime time.Duration // how long the kernel answers after it was last told to
	own      *ownPorts
}

// port is a link that answers.
type port struct {
	index uint32
	name  string
	mac   net.HardwareAddr
}

// chain is the name of the chain that p's frames come through. It changes when the
// link does: a chain stays with its link, and newer kernels look for its name again.
func (p port) chain() string { return fmt.Sprintf("link-%d-%s", p.index, p.name) }

// answered is an address on a link.
type answered struct {
	link uint32 // index
	addr netip.Addr
}

func (a answered) compare(o answered) int {
	return cmp.Or(cmp.Compare(a.link, o.link), a.addr.Compare(o.addr))
}

func (a answered) key() []byte { return append(host32(a.link), a.addr.AsSlice()...) }

// asked is what the kernel is to answer for, or answers for.
type asked struct {
	ports map[uint32]port // by index
	addrs map[answered]bool
}

// table is the kernel's copy.
type table struct {
	asked  // without the ports' names
	exists bool
	intact bool     // chains and rules are ours, and of this version
	chains []string // of links, sorted
}

func (as answers) open() (*nftables.Conn, error) {
	// A transaction is sent at once: it has to fit the socket's buffer.
	const buffer = 16 << 20
	room := func(c *netlink.Conn) error {
		as.own.add(c)
		return errors.Join(c.SetWriteBuffer(buffer), c.SetReadBuffer(buffer))
	}
	c, err := nftables.New(nftables.WithNetNSFd(as.netns), nftables.WithSockOptions(room))
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	return c, nil
}

func (as answers) newTable() *nftables.Table {
	return &nftables.Table{Name: string(as.owner), Family: nftables.TableFamilyNetdev}
}

// read returns what the kernel holds. Ports whose time is over are not among them.
func (as answers) read() (table, error) {
	now := table{asked: asked{ports: map[uint32]port{}, addrs: map[answered]bool{}}}
	c, err := as.open()
	if err != nil {
		return now, err
	}
	all, err := c.ListTablesOfFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return now, fmt.Errorf("list tables: %w", err)
	}
	if !slices.ContainsFunc(all, func(t *nftables.Table) bool { return t.Name == string(as.owner) }) {
		return now, nil
	}
	now.exists = true
	if now.intact, err = now.readRules(c, as.owner); err != nil {
		return now, err
	}
	err = now.readSets(c, as.newTable())
	if !now.intact {
		return now, nil // another version's, which answers for what its sets hold, if it has them
	}
	return now, err
}

// readRules reports whether the rules are those of this version.
func (t *table) readRules(c *nftables.Conn, owner Owner) (bool, error) {
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return false, fmt.Errorf("list chains: %w", err)
	}
	want, got := map[string][]string{}, map[string][]string{}
	for _, r := range answerRules() {
		// By its hash: a rule of another version may have the same text.
		want[r.chain] = append(want[r.chain], r.comment())
	}
	for _, ch := range chains {
		if ch.Table.Name != string(owner) {
			continue
		}
		if strings.HasPrefix(ch.Name, "link-") {
			t.chains = append(t.chains, ch.Name)
			for _, r := range linkRules(ch.Name) {
				want[ch.Name] = append(want[ch.Name], r.comment())
			}
		}
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			return false, fmt.Errorf("list rules of %s: %w", ch.Name, err)
		}
		got[ch.Name] = nil
		for _, r := range rules {
			got[ch.Name] = append(got[ch.Name], commentOf(r.UserData))
		}
	}
	slices.Sort(t.chains)
	return maps.EqualFunc(want, got, slices.Equal), nil
}

// readSets reads what is answered for.
func (t *table) readSets(c *nftables.Conn, of *nftables.Table) error {
	links, arp, ndp := sets(of)
	elems, err := c.GetSetElements(links)
	for _, e := range elems {
		if len(e.Key) == 4 && len(e.Val) >= 6 {
			index := binary.NativeEndian.Uint32(e.Key)
			t.ports[index] = port{index: index, mac: bytes.Clone(e.Val[:6])}
		}
	}
	for _, s := range []*nftables.Set{arp, ndp} {
		elems, bad := c.GetSetElements(s)
		err = errors.Join(err, bad)
		for _, e := range elems {
			if addr, ok := netip.AddrFromSlice(e.Key[min(4, len(e.Key)):]); ok {
				t.addrs[answered{binary.NativeEndian.Uint32(e.Key), addr}] = true
			}
		}
	}
	if err != nil {
		return fmt.Errorf("list what is answered for: %w", err)
	}
	return nil
}

// set makes the kernel answer for want and nothing else, for a lifetime from now,
// in one transaction. After an error it answers as before, and no longer than it
// would have.
func (as answers) set(want asked) error {
	now, err := as.read()
	if err != nil {
		return err
	}
	c, err := as.open()
	if err != nil {
		return err
	}
	t := as.newTable()
	links, arp, ndp := sets(t)
	if !now.intact {
		now = replace(c, t, now.exists)
	} else {
		// Before Linux 6.12 an element that is added again keeps the time that it had.
		c.FlushSet(links)
	}
	var elems []nftables.SetElement
	for _, p := range slices.SortedFunc(maps.Values(want.ports), func(a, b port) int { return cmp.Compare(a.index, b.index) }) {
		if !slices.Contains(now.chains, p.chain()) {
			addLink(c, t, p)
		}
		elems = append(elems, nftables.SetElement{Key: host32(p.index), Val: p.mac, Timeout: as.lifetime})
	}
	err = each(elems, func(some []nftables.SetElement) error { return c.SetAddElements(links, some) })
	gone, news := difference(now.addrs, want.addrs)
	err = errors.Join(err, change(gone, arp, ndp, c.SetDeleteElements), change(news, arp, ndp, c.SetAddElements))
	dropLinks(c, t, now.chains, want.ports)
	if err == nil {
		err = c.Flush()
	}
	if err != nil {
		return fmt.Errorf("table netdev %s: %w", as.owner, needed(err))
	}
	return nil
}

// remove makes the kernel stop answering for what is in gone. What is left is
// answered for as long as it would have been. If nothing is left, the table goes.
func (as answers) remove(gone map[answered]bool) error {
	now, err := as.read()
	if err != nil {
		return err
	}
	c, err := as.open()
	if err != nil {
		return err
	}
	_, arp, ndp := sets(as.newTable())
	var there []answered
	for a := range gone {
		if now.addrs[a] {
			there = append(there, a)
		}
	}
	switch {
	case !now.exists:
		return nil
	case len(there) == len(now.addrs):
		return as.removeAll()
	}
	if err = change(sortAnswered(there), arp, ndp, c.SetDeleteElements); err == nil {
		err = c.Flush()
	}
	if err != nil {
		return fmt.Errorf("table netdev %s: %w", as.owner, err)
	}
	return nil
}

// removeAll removes the table, if it is there.
func (as answers) removeAll() error {
	c, err := as.open()
	if err != nil {
		return err
	}
	c.AddTable(as.newTable()) // or removing it would fail if it were not there
	c.DelTable(as.newTable())
	if err := c.Flush(); err != nil {
		return fmt.Errorf("remove table netdev %s: %w", as.owner, err)
	}
	return nil
}

// Probe reports what keeps the kernel of the network namespace netns, a file
// descriptor or 0 for that of the caller, from answering; nil if nothing does. It leaves
// nothing behind.
func Probe(netns int) error {
	c, err := answers{netns: netns}.open()
	if err != nil {
		return err
	}
	t := &nftables.Table{Name: string(Agents) + "-probe", Family: nftables.TableFamilyNetdev}
	replace(c, t, false)
	addLink(c, t, port{name: "lo"})
	c.DelTable(t)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("answer ARP and NDP by nftables, which needs CONFIG_NF_TABLES_NETDEV and CONFIG_NFT_DUP_NETDEV: %w", err)
	}
	return nil
}

// replace appends what makes an empty table of this version.
func replace(c *nftables.Conn, t *nftables.Table, exists bool) table {
	if exists {
		c.DelTable(t)
	}
	c.AddTable(t)
	links, arp, ndp := sets(t)
	for _, s := range []*nftables.Set{links, arp, ndp} {
		_ = c.AddSet(s, nil) // fails for anonymous sets and elements alone
	}
	for _, name := range []string{chainARP, chainNDP} {
		c.AddChain(&nftables.Chain{Table: t, Name: name})
	}
	addRules(c, t, answerRules())
	return table{exists: true, intact: true}
}

func addRules(c *nftables.Conn, t *nftables.Table, rules []rule) {
	for _, r := range rules {
		c.AddRule(&nftables.Rule{Table: t, Chain: &nftables.Chain{Table: t, Name: r.chain}, Exprs: r.exprs, UserData: commentData(r.comment())})
	}
}

// addLink appends the chain of a link.
func addLink(c *nftables.Conn, t *nftables.Table, p port) {
	accept := nftables.ChainPolicyAccept
	c.AddChain(&nftables.Chain{Table: t, Name: p.chain(), Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress,
		Priority: nftables.ChainPriorityFilter, Device: p.name, Policy: &accept})
	addRules(c, t, linkRules(p.chain()))
}

// dropLinks appends the end of the chains of other links than ports.
func dropLinks(c *nftables.Conn, t *nftables.Table, chains []string, ports map[uint32]port) {
	wanted := map[string]bool{}
	for _, p := range ports {
		wanted[p.chain()] = true
	}
	for _, name := range chains {
		if !wanted[name] {
			ch := &nftables.Chain{Table: t, Name: name}
			c.FlushChain(ch)
			c.DelChain(ch)
		}
	}
}

// difference returns what is in was alone and what is in want alone, sorted.
func difference(was, want map[answered]bool) (gone, news []answered) {
	for a := range was {
		if !want[a] {
			gone = append(gone, a)
		}
	}
	for a := range want {
		if !was[a] {
			news = append(news, a)
		}
	}
	return sortAnswered(gone), sortAnswered(news)
}

func sortAnswered(all []answered) []answered {
	slices.SortFunc(all, answered.compare)
	return all
}

// change appends elements to one of the two sets each, by means of act.
func change(all []answered, arp, ndp *nftables.Set, act func(*nftables.Set, []nftables.SetElement) error) error {
	var elems4, elems6 []nftables.SetElement
	for _, a := range all {
		e := nftables.SetElement{Key: a.key()}
		if a.addr.Is4() {
			elems4 = append(elems4, e)
		} else {
			elems6 = append(elems6, e)
		}
	}
	return errors.Join(
		each(elems4, func(some []nftables.SetElement) error { return act(arp, some) }),
		each(elems6, func(some []nftables.SetElement) error { return act(ndp, some) }))
}

// each calls f for parts of a list: the list in a message is one attribute with a
// 16-bit length, and loses its tail without an error.
func each(all []nftables.SetElement, f func([]nftables.SetElement) error) error {
	const most = 500
	for some := range slices.Chunk(all, most) {
		if err := f(some); err != nil {
			return err
		}
	}
	return nil
}

// commentData is a comment as nft keeps it in a rule's user data.
func commentData(s string) []byte { return append([]byte{0, byte(len(s) + 1)}, s+"\x00"...) }

// commentOf is the comment in a rule's user data.
func commentOf(b []byte) string {
	if len(b) < 3 || b[0] != 0 || int(b[1]) != len(b)-2 {
		return ""
	}
	return string(b[2 : len(b)-1])
}

// needed adds to an error what the kernel or this process may lack.
func needed(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w (the capability NET_ADMIN is missing)", err)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("%w (this kernel may lack CONFIG_NF_TABLES_NETDEV or CONFIG_NFT_DUP_NETDEV)", err)
	}
	return err
}
