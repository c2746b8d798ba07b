package nftables

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
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

// held is what the kernel holds of one family's table.
type held struct {
	exists   bool
	comment  string
	flags    uint32 // such as "dormant", which takes a table out of force
	sets     map[string]heldSet
	chains   map[string]heldChain
	elements []element // sorted; without those of dynamic sets
}

// ours tells whether an agent made the table, of this or another version, and
// whether it is in force.
func (h *held) ours() bool { return strings.HasPrefix(h.comment, "fairlead") && h.flags == 0 }

// sound returns the elements of those sets that have the types that ours have:
// an older layout, or somebody else's table of our name, may have others.
func (h *held) sound(f *family) []element {
	spec := specs(layout{family: f}.objects(h.shape()))
	var out []element
	for _, e := range h.elements {
		if s, ok := spec[e.set]; ok && h.sets[e.set] == s.held() {
			out = append(out, e)
		}
	}
	return out
}

// heldSet is a set's properties as numbers, to compare with a setSpec.
type heldSet struct {
	flags, keyType, keyLen, dataType, dataLen uint32
}

// heldChain is a chain's hook and the hashes of its rules, in order. A rule
// that is not ours has the hash "".
type heldChain struct {
	hook   hook
	hashes string
}

func (s setSpec) held() heldSet {
	h := heldSet{flags: s.flags()}
	h.keyType, h.keyLen = typeOf(s.key)
	if s.verdict {
		h.dataType = unix.NFT_DATA_VERDICT
	} else if s.data != nil {
		h.dataType, h.dataLen = typeOf(s.data)
	}
	return h
}

func (c chain) held() heldChain {
	var h heldChain
	if c.hook != nil {
		h.hook = *c.hook
	}
	for _, r := range c.rules {
		h.hashes += string(r.userdata()[2:])
	}
	return h
}

// generation returns the number that every transaction in this network
// namespace, ours or not, increases.
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

// read returns what the kernel holds of both families, and the generation at
// which that was so.
func (c *conn) read(ctx context.Context) (map[*family]*held, uint32, error) {
	const tries = 10
	for range tries {
		gen, err := c.generation(ctx)
		if err != nil {
			return nil, 0, err
		}
		out := map[*family]*held{}
		for _, f := range families {
			if out[f], err = c.readTable(ctx, f); err != nil {
				break
			}
		}
		if err != nil && !errors.Is(err, errInterrupted) && !errors.Is(err, unix.ENOENT) {
			return nil, 0, fmt.Errorf("read the tables: %w", explain(err))
		}
		after, gerr := c.generation(ctx)
		if gerr != nil {
			return nil, 0, gerr
		}
		if err == nil && after == gen {
			return out, gen, nil
		}
	}
	return nil, 0, fmt.Errorf("read the tables: %w %d times", errInterrupted, tries)
}

func (c *conn) readTable(ctx context.Context, f *family) (*held, error) {
	h := &held{sets: map[string]heldSet{}, chains: map[string]heldChain{}}
	err := c.get(ctx, nft(unix.NFT_MSG_GETTABLE), f.nf, false,
		func(b *batch) { b.str(unix.NFTA_TABLE_NAME, b.table) },
		func(m message) error {
			h.exists = true
			h.comment = parseComment(attribute(m.data, tableUserdata))
			h.flags = number(attribute(m.data, unix.NFTA_TABLE_FLAGS))
			return nil
		})
	if errors.Is(err, unix.ENOENT) {
		return h, nil
	}
	if err == nil {
		err = c.readSets(ctx, f, h)
	}
	if err == nil {
		err = c.readChains(ctx, f, h)
	}
	if err == nil {
		err = c.readRules(ctx, f, h)
	}
	for name, s := range h.sets {
		if err == nil && s.flags&unix.NFT_SET_EVAL == 0 {
			err = c.readElements(ctx, f, h, name, s)
		}
	}
	h.elements = sortElements(h.elements)
	return h, err
}

func (c *conn) readSets(ctx context.Context, f *family, h *held) error {
	return c.get(ctx, nft(unix.NFT_MSG_GETSET), f.nf, true,
		func(b *batch) { b.str(unix.NFTA_SET_TABLE, tableName) },
		func(m message) error {
			var name string
			var s heldSet
			for typ, v := range attributes(m.data) {
				switch typ {
				case unix.NFTA_SET_NAME:
					name = cstring(v)
				case unix.NFTA_SET_FLAGS:
					s.flags = number(v)
				case unix.NFTA_SET_KEY_TYPE:
					s.keyType = number(v)
				case unix.NFTA_SET_KEY_LEN:
					s.keyLen = number(v)
				case unix.NFTA_SET_DATA_TYPE:
					s.dataType = number(v)
				case unix.NFTA_SET_DATA_LEN:
					s.dataLen = number(v)
				}
			}
			if s.dataType == unix.NFT_DATA_VERDICT {
				s.dataLen = 0 // the kernel tells the size of its own struct
			}
			if s.flags&unix.NFT_SET_ANONYMOUS == 0 {
				h.sets[name] = s
			}
			return nil
		})
}

func (c *conn) readChains(ctx context.Context, f *family, h *held) error {
	return c.get(ctx, nft(unix.NFT_MSG_GETCHAIN), f.nf, true, func(*batch) {}, func(m message) error {
		if cstring(attribute(m.data, unix.NFTA_CHAIN_TABLE)) != tableName {
			return nil
		}
		var ch heldChain
		if hk := attribute(m.data, unix.NFTA_CHAIN_HOOK); hk != nil {
			ch.hook = hook{
				kind:     cstring(attribute(m.data, unix.NFTA_CHAIN_TYPE)),
				num:      number(attribute(hk, unix.NFTA_HOOK_HOOKNUM)),
				priority: int32(number(attribute(hk, unix.NFTA_HOOK_PRIORITY))),
			}
		}
		h.chains[cstring(attribute(m.data, unix.NFTA_CHAIN_NAME))] = ch
		return nil
	})
}

func (c *conn) readRules(ctx context.Context, f *family, h *held) error {
	return c.get(ctx, nft(unix.NFT_MSG_GETRULE), f.nf, true,
		func(b *batch) { b.str(unix.NFTA_RULE_TABLE, tableName) },
		func(m message) error {
			if cstring(attribute(m.data, unix.NFTA_RULE_TABLE)) != tableName {
				return nil
			}
			name := cstring(attribute(m.data, unix.NFTA_RULE_CHAIN))
			ch := h.chains[name]
			hash := userdata(attribute(m.data, unix.NFTA_RULE_USERDATA), ruleHash)
			if hash == nil {
				hash = []byte("foreign!")
			}
			ch.hashes += string(hash)
			h.chains[name] = ch
			return nil
		})
}

func (c *conn) readElements(ctx context.Context, f *family, h *held, name string, s heldSet) error {
	first := len(h.elements)
	ranges := s.flags&unix.NFT_SET_INTERVAL != 0 && s.flags&setConcat == 0
	var ends []bool
	err := c.get(ctx, nft(unix.NFT_MSG_GETSETELEM), f.nf, true,
		func(b *batch) {
			b.str(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
			b.str(unix.NFTA_SET_ELEM_LIST_SET, name)
		},
		func(m message) error {
			for _, v := range attributes(attribute(m.data, unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
				e, end := parseElement(v, s)
				e.set = name
				h.elements = append(h.elements, e)
				if ranges {
					ends = append(ends, end)
				}
			}
			return nil
		})
	if ranges {
		h.elements = append(h.elements[:first], joinRanges(h.elements[first:], ends)...)
	}
	return err
}

// parseElement reads one element; end tells that it ends a range.
func parseElement(b []byte, s heldSet) (e element, end bool) {
	for typ, v := range attributes(b) {
		switch typ {
		case unix.NFTA_SET_ELEM_KEY:
			e.key = string(attribute(v, unix.NFTA_DATA_VALUE))
		case setElemKeyEnd:
			e.end = string(attribute(v, unix.NFTA_DATA_VALUE))
		case unix.NFTA_SET_ELEM_DATA:
			if s.dataType == unix.NFT_DATA_VERDICT {
				e.data = parseVerdict(attribute(v, unix.NFTA_DATA_VERDICT))
			} else {
				e.data = string(attribute(v, unix.NFTA_DATA_VALUE))
			}
		case unix.NFTA_SET_ELEM_USERDATA:
			e.comment = parseComment(v)
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
func joinRanges(elems []element, ends []bool) []element {
	order := make([]int, len(elems))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		c := cmp.Compare(elems[a].key, elems[b].key)
		if c == 0 && ends[a] != ends[b] {
			if ends[a] {
				return -1
			}
			return 1
		}
		return c
	})
	var out []element
	open := false
	for _, i := range order {
		switch {
		case !ends[i]:
			out = append(out, elems[i])
			open = true
		case open:
			out[len(out)-1].end = before(elems[i].key)
			open = false
		}
	}
	for i := range out {
		if out[i].end == "" {
			out[i].end = string(bytes.Repeat([]byte{0xff}, len(out[i].key)))
		}
	}
	return out
}
