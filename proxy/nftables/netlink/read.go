package netlink

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/proxy/nftables"
)

// attributes iterates over netlink attributes; broken ones end it.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= 4 {
			n := int(binary.NativeEndian.Uint16(b))
			if n < 4 || n > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[4:n]) {
				return
			}
			b = b[min(len(b), (n+3)&^3):]
		}
	}
}

// attribute returns the attribute of one type, nil if there is none.
func attribute(b []byte, want uint16) []byte {
	for typ, v := range attributes(b) {
		if typ == want {
			return v
		}
	}
	return nil
}

func cstring(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

func number(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// generation returns the number that every transaction in this network namespace, ours
// or not, increases.
func (c *conn) generation(ctx context.Context) (uint32, error) {
	var gen uint32
	err := c.get(ctx, nft(unix.NFT_MSG_GETGEN), unix.AF_UNSPEC, false, func(*batch) {}, func(m message) error {
		gen = number(attribute(m.data, unix.NFTA_GEN_ID))
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read the ruleset's generation: %w", explain(err))
	}
	return gen, nil
}

// dump lists objects of ours. That it was interrupted means that somebody wrote to any
// table. If it was ours, the watch says so. Otherwise the list is complete: the kernel
// resumes it by how many objects of our table it has passed.
func (c *conn) dump(ctx context.Context, msg uint16, f *nftables.Family, attrs func(*batch), yield func(message) error) error {
	err := c.get(ctx, nft(msg), nfproto(f), true, attrs, yield)
	if errors.Is(err, errInterrupted) {
		return nil
	}
	return err
}

// read returns what the kernel holds of the families that it has rules for, in the order of
// nftables.Families. If somebody else writes to our tables meanwhile, it may be what
// they never held at once, and the watch says so.
func (c *conn) read(ctx context.Context) ([]*nftables.Kernel, error) {
	var out []*nftables.Kernel
	for _, f := range c.families {
		k, err := c.readTable(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("read the table %s %s: %w", f, nftables.TableName, explain(err))
		}
		out = append(out, k)
	}
	return out, nil
}

func (c *conn) readTable(ctx context.Context, f *nftables.Family) (*nftables.Kernel, error) {
	k := &nftables.Kernel{Family: f, Sets: map[string]nftables.SetType{}, Chains: map[string]nftables.ChainType{}}
	err := c.get(ctx, nft(unix.NFT_MSG_GETTABLE), nfproto(f), false,
		func(b *batch) { b.str(unix.NFTA_TABLE_NAME, b.table) },
		func(m message) error {
			k.Exists = true
			k.Comment = parseComment(attribute(m.data, tableUserdata))
			k.Flags = number(attribute(m.data, unix.NFTA_TABLE_FLAGS))
			return nil
		})
	if errors.Is(err, unix.ENOENT) {
		return k, nil
	}
	if err == nil {
		err = c.readSets(ctx, k)
	}
	if err == nil {
		err = c.readChains(ctx, k)
	}
	if err == nil {
		err = c.readRules(ctx, k)
	}
	for _, name := range slices.Sorted(maps.Keys(k.Sets)) {
		// Packets fill the others while they are read. They are read when an endpoint moves.
		if s := k.Sets[name]; err == nil && !s.Dynamic() {
			first := len(k.Elements)
			k.Elements, err = c.readElements(ctx, k.Elements, f, name, s)
			slices.SortFunc(k.Elements[first:], nftables.Element.Compare)
		}
	}
	// A map that grows is listed twice in part.
	k.Elements = slices.Compact(k.Elements)
	return k, err
}

func (c *conn) readSets(ctx context.Context, k *nftables.Kernel) error {
	return c.dump(ctx, unix.NFT_MSG_GETSET, k.Family,
		func(b *batch) { b.str(unix.NFTA_SET_TABLE, nftables.TableName) },
		func(m message) error {
			var name string
			var s nftables.SetType
			for typ, v := range attributes(m.data) {
				switch typ {
				case unix.NFTA_SET_NAME:
					name = cstring(v)
				case unix.NFTA_SET_FLAGS:
					s.Flags = number(v)
				case unix.NFTA_SET_KEY_TYPE:
					s.KeyType = number(v)
				case unix.NFTA_SET_KEY_LEN:
					s.KeyLen = number(v)
				case unix.NFTA_SET_DATA_TYPE:
					s.DataType = number(v)
				case unix.NFTA_SET_DATA_LEN:
					s.DataLen = number(v)
				}
			}
			if s.Verdict() {
				s.DataLen = 0 // the kernel returns the size of its own struct
			}
			if s.Flags&unix.NFT_SET_ANONYMOUS == 0 {
				k.Sets[name] = s
			}
			return nil
		})
}

// chainTries is how often readChains lists the chains while others write.
const chainTries = 10

// readChains lists the chains of all tables, which the kernel resumes by how many of
// anybody's it has passed. If chains come and go meanwhile, it may miss some of ours:
// readChains then lists again, and takes all that it ever saw.
func (c *conn) readChains(ctx context.Context, k *nftables.Kernel) (err error) {
	for range chainTries {
		if err = c.listChains(ctx, k); !errors.Is(err, errInterrupted) {
			return err
		}
	}
	return nil
}

func (c *conn) listChains(ctx context.Context, k *nftables.Kernel) error {
	return c.get(ctx, nft(unix.NFT_MSG_GETCHAIN), nfproto(k.Family), true, func(*batch) {}, func(m message) error {
		if cstring(attribute(m.data, unix.NFTA_CHAIN_TABLE)) != nftables.TableName {
			return nil
		}
		var ch nftables.ChainType
		if hk := attribute(m.data, unix.NFTA_CHAIN_HOOK); hk != nil {
			ch.Hook = nftables.Hook{
				Kind:     cstring(attribute(m.data, unix.NFTA_CHAIN_TYPE)),
				Point:    number(attribute(hk, unix.NFTA_HOOK_HOOKNUM)),
				Priority: int32(number(attribute(hk, unix.NFTA_HOOK_PRIORITY))),
			}
		}
		k.Chains[cstring(attribute(m.data, unix.NFTA_CHAIN_NAME))] = ch
		return nil
	})
}

func (c *conn) readRules(ctx context.Context, k *nftables.Kernel) error {
	return c.dump(ctx, unix.NFT_MSG_GETRULE, k.Family,
		func(b *batch) { b.str(unix.NFTA_RULE_TABLE, nftables.TableName) },
		func(m message) error {
			if cstring(attribute(m.data, unix.NFTA_RULE_TABLE)) != nftables.TableName {
				return nil
			}
			name := cstring(attribute(m.data, unix.NFTA_RULE_CHAIN))
			ch := k.Chains[name]
			hash := userdata(attribute(m.data, unix.NFTA_RULE_USERDATA), ruleHash)
			// A rule without our hash was added by somebody else: the chain counts as changed.
			if hash == nil {
				hash = []byte("foreign!")
			}
			ch.Hashes += string(hash)
			k.Chains[name] = ch
			return nil
		})
}

// readElements appends the elements of one set.
func (c *conn) readElements(ctx context.Context, out []nftables.Element, f *nftables.Family, name string, s nftables.SetType) ([]nftables.Element, error) {
	first := len(out)
	var ends []bool
	err := c.dump(ctx, unix.NFT_MSG_GETSETELEM, f,
		func(b *batch) {
			b.str(unix.NFTA_SET_ELEM_LIST_TABLE, nftables.TableName)
			b.str(unix.NFTA_SET_ELEM_LIST_SET, name)
		},
		func(m message) error {
			for _, v := range attributes(attribute(m.data, unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
				e, end := parseElement(v, s)
				e.Set = name
				if len(out) == cap(out) {
					out = slices.Grow(out, max(len(out), 1000)) // append grows large lists by a quarter, and leaves as many copies
				}
				out = append(out, e)
				if s.Ranges() {
					ends = append(ends, end)
				}
			}
			return nil
		})
	if s.Ranges() {
		out = append(out[:first], joinRanges(out[first:], ends)...)
	}
	return out, err
}

// parseElement reads one element; end reports whether it ends a range.
func parseElement(b []byte, s nftables.SetType) (e nftables.Element, end bool) {
	for typ, v := range attributes(b) {
		switch typ {
		case unix.NFTA_SET_ELEM_KEY:
			e.Key = string(attribute(v, unix.NFTA_DATA_VALUE))
		case setElemKeyEnd:
			e.End = string(attribute(v, unix.NFTA_DATA_VALUE))
		case unix.NFTA_SET_ELEM_DATA:
			if s.Verdict() {
				e.Data = parseVerdict(attribute(v, unix.NFTA_DATA_VERDICT))
			} else {
				e.Data = string(attribute(v, unix.NFTA_DATA_VALUE))
			}
		case unix.NFTA_SET_ELEM_USERDATA:
			e.Comment = parseComment(v)
		case unix.NFTA_SET_ELEM_FLAGS:
			end = number(v)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		}
	}
	return e, end
}

func parseVerdict(b []byte) string {
	switch code := int32(number(attribute(b, unix.NFTA_VERDICT_CODE))); code {
	case nfDrop:
		return "drop"
	case unix.NFT_GOTO:
		return "goto " + cstring(attribute(b, unix.NFTA_VERDICT_CHAIN))
	default:
		return fmt.Sprintf("verdict %d", code)
	}
}

// joinRanges makes ranges of start and end elements in any order. A start
// without an end reaches to the last address.
func joinRanges(elems []nftables.Element, ends []bool) []nftables.Element {
	order := make([]int, len(elems))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		c := cmp.Compare(elems[a].Key, elems[b].Key)
		// One range ends where the next begins: the end comes first.
		if c == 0 && ends[a] != ends[b] {
			if ends[a] {
				return -1
			}
			return 1
		}
		return c
	})
	var out []nftables.Element
	open := false
	for _, i := range order {
		switch {
		case !ends[i]:
			out = append(out, elems[i])
			open = true
		case open:
			out[len(out)-1].End = before(elems[i].Key)
			open = false
		}
	}
	for i := range out {
		if out[i].End == "" {
			out[i].End = string(bytes.Repeat([]byte{0xff}, len(out[i].Key)))
		}
	}
	return out
}
