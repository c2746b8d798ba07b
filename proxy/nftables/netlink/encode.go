package netlink

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/proxy/nftables"
)

// maxElements is how many elements one message carries: the list is one
// attribute with a 16-bit length, and a longer one loses its tail silently.
const maxElements = 500

const create = unix.NLM_F_CREATE | unix.NLM_F_EXCL

func (b *batch) addTable(f *nftables.Family, comment string) {
	end := b.message(nft(unix.NFT_MSG_NEWTABLE), create, nfproto(f), "add table")
	b.str(unix.NFTA_TABLE_NAME, b.table)
	// No owner (Linux 5.12): a saved ruleset with our tables would be refused whole, a firewall with it.
	b.u32(unix.NFTA_TABLE_FLAGS, 0)
	b.bytes(tableUserdata, commentData(comment))
	end()
}

// tableUserdata is NFTA_TABLE_USERDATA, since Linux 5.10.
const tableUserdata = 6

func (b *batch) deleteTable(f *nftables.Family) {
	end := b.message(nft(unix.NFT_MSG_DELTABLE), 0, nfproto(f), "delete table")
	b.str(unix.NFTA_TABLE_NAME, b.table)
	end()
}

// commentData is a comment as nft keeps it in user data (type 0), which is the
// same for tables, rules and elements.
func commentData(s string) string { return string([]byte{0, byte(len(s) + 1)}) + s + "\x00" }

// parseComment finds a comment in user data.
func parseComment(data []byte) string { return strings.TrimRight(string(userdata(data, 0)), "\x00") }

// userdata returns the value of the first entry of a type, or nil.
func userdata(data []byte, typ byte) []byte {
	for len(data) >= 2 {
		n := int(data[1])
		if len(data) < 2+n {
			return nil
		}
		if data[0] == typ {
			return data[2 : 2+n]
		}
		data = data[2+n:]
	}
	return nil
}

// The verdicts, which x/sys/unix lacks.
const (
	nfDrop   = 0
	nfAccept = 1
)

// byteOrder is the byte order of a key as nft remembers it in a set's user
// data: without it nft guesses wrong when it lists. 0 is "it varies".
func byteOrder(fields []nftables.Field) byte {
	switch {
	case len(fields) == 1 && fields[0] == nftables.FieldLink:
		return 1 // the host's
	case len(fields) == 1:
		return 2 // big endian
	}
	return 0
}

func (b *batch) addSet(f *nftables.Family, s nftables.Set) {
	end := b.message(nft(unix.NFT_MSG_NEWSET), create, nfproto(f), "add "+s.Name)
	typ := s.Type()
	b.str(unix.NFTA_SET_TABLE, b.table)
	b.str(unix.NFTA_SET_NAME, s.Name)
	b.sets++
	b.u32(unix.NFTA_SET_ID, b.sets)
	b.u32(unix.NFTA_SET_FLAGS, typ.Flags)
	b.u32(unix.NFTA_SET_KEY_TYPE, typ.KeyType)
	b.u32(unix.NFTA_SET_KEY_LEN, typ.KeyLen)
	udata := []byte{0, 4, byteOrder(s.Key), 0, 0, 0}
	if s.IsMap() {
		b.u32(unix.NFTA_SET_DATA_TYPE, typ.DataType)
		b.u32(unix.NFTA_SET_DATA_LEN, typ.DataLen)
		udata = append(udata, 1, 4, byteOrder(s.Data), 0, 0, 0)
	}
	if typ.Concat() {
		desc := b.nest(unix.NFTA_SET_DESC)
		concat := b.nest(2) // NFTA_SET_DESC_CONCAT
		for _, k := range s.Key {
			one := b.nest(unix.NFTA_LIST_ELEM)
			b.u32(1, uint32(k.Len)) // NFTA_SET_FIELD_LEN
			b.close(one)
		}
		b.close(concat)
		b.close(desc)
	}
	b.attr(unix.NFTA_SET_USERDATA, udata)
	end()
}

func (b *batch) deleteSet(f *nftables.Family, name string) {
	end := b.message(nft(unix.NFT_MSG_DELSET), 0, nfproto(f), "delete "+name)
	b.str(unix.NFTA_SET_TABLE, b.table)
	b.str(unix.NFTA_SET_NAME, name)
	end()
}

func (b *batch) addChain(f *nftables.Family, c nftables.Chain) {
	end := b.message(nft(unix.NFT_MSG_NEWCHAIN), create, nfproto(f), "add chain "+c.Name)
	b.str(unix.NFTA_CHAIN_TABLE, b.table)
	b.str(unix.NFTA_CHAIN_NAME, c.Name)
	if c.Hook != nil {
		b.str(unix.NFTA_CHAIN_TYPE, c.Hook.Kind)
		n := b.nest(unix.NFTA_CHAIN_HOOK)
		b.u32(unix.NFTA_HOOK_HOOKNUM, c.Hook.Point)
		b.u32(unix.NFTA_HOOK_PRIORITY, uint32(c.Hook.Priority))
		b.close(n)
		b.u32(unix.NFTA_CHAIN_POLICY, nfAccept)
	}
	end()
}

// deleteRules deletes the rules of chains.
func (b *batch) deleteRules(f *nftables.Family, chains []string) {
	for _, name := range chains {
		end := b.message(nft(unix.NFT_MSG_DELRULE), 0, nfproto(f), "delete the rules of "+name)
		b.str(unix.NFTA_RULE_TABLE, b.table)
		b.str(unix.NFTA_RULE_CHAIN, name)
		end()
	}
}

// deleteChains deletes chains without rules.
func (b *batch) deleteChains(f *nftables.Family, names []string) {
	for _, name := range names {
		end := b.message(nft(unix.NFT_MSG_DELCHAIN), 0, nfproto(f), "delete chain "+name)
		b.str(unix.NFTA_CHAIN_TABLE, b.table)
		b.str(unix.NFTA_CHAIN_NAME, name)
		end()
	}
}

func (b *batch) addRule(f *nftables.Family, chain string, r nftables.Rule) {
	for _, st := range r.Statements {
		if st.Verb == nftables.Spread || st.Verb == nftables.Hash {
			b.addSpread(f, st)
		}
	}
	end := b.message(nft(unix.NFT_MSG_NEWRULE), unix.NLM_F_CREATE|unix.NLM_F_APPEND, nfproto(f),
		fmt.Sprintf("add rule %s %s", chain, r.Text))
	b.str(unix.NFTA_RULE_TABLE, b.table)
	b.str(unix.NFTA_RULE_CHAIN, chain)
	list := b.nest(unix.NFTA_RULE_EXPRESSIONS)
	for _, st := range r.Statements {
		for _, e := range expressions(f, st, b.sets) {
			data, err := expr.Marshal(nfproto(f), e)
			if err != nil {
				b.err = fmt.Errorf("rule %q: %w", r.Text, err)
			}
			b.attr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, data)
		}
	}
	b.close(list)
	b.attr(unix.NFTA_RULE_USERDATA, append([]byte{ruleHash, byte(len(r.Hash))}, r.Hash...))
	end()
}

// ruleHash is the type of our entry in a rule's user data, a Rule's Hash. nft passes
// over types that it does not know.
const ruleHash = 0x66

// addSpread adds the anonymous map {0: goto a, ...} of a numgen or a jhash. Its key is
// in host byte order and says so, or a listing would not load back.
func (b *batch) addSpread(f *nftables.Family, st nftables.Statement) {
	end := b.message(nft(unix.NFT_MSG_NEWSET), create, nfproto(f), "add anonymous map")
	b.str(unix.NFTA_SET_TABLE, b.table)
	b.str(unix.NFTA_SET_NAME, spreadSet)
	b.sets++
	b.u32(unix.NFTA_SET_ID, b.sets)
	b.u32(unix.NFTA_SET_FLAGS, unix.NFT_SET_ANONYMOUS|unix.NFT_SET_CONSTANT|unix.NFT_SET_MAP)
	b.u32(unix.NFTA_SET_KEY_TYPE, 4) // integer
	b.u32(unix.NFTA_SET_KEY_LEN, 4)
	b.u32(unix.NFTA_SET_DATA_TYPE, unix.NFT_DATA_VERDICT)
	b.u32(unix.NFTA_SET_DATA_LEN, 0)
	desc := b.nest(unix.NFTA_SET_DESC)
	b.u32(unix.NFTA_SET_DESC_SIZE, uint32(len(st.Chains)))
	b.close(desc)
	b.attr(unix.NFTA_SET_USERDATA, []byte{0, 4, 1, 0, 0, 0, 1, 4, 0, 0, 0, 0})
	end()
	verb := "goto "
	if st.Return {
		verb = "jump "
	}
	elems := make([]nftables.Element, len(st.Chains))
	for i, c := range st.Chains {
		elems[i] = nftables.Element{Key: string(host(uint32(i))), Data: verb + c}
	}
	b.elements(f, unix.NFT_MSG_NEWSETELEM, nftables.Set{Name: spreadSet, Verdict: true}, elems)
}

// elements adds or deletes elements of one set, any number of them.
func (b *batch) elements(f *nftables.Family, msg uint16, s nftables.Set, elems []nftables.Element) {
	for chunk := range slices.Chunk(elems, maxElements) {
		verb, flags := "delete from ", uint16(0)
		if msg == unix.NFT_MSG_NEWSETELEM {
			verb, flags = "add to ", create
		}
		start := len(b.buf)
		end := b.message(nft(msg), flags, nfproto(f), verb+s.Name)
		req := b.requests[b.seq-1]
		req.elems, req.offs = chunk, make([]uint32, len(chunk))
		b.str(unix.NFTA_SET_ELEM_LIST_TABLE, b.table)
		b.str(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
		if s.Name == spreadSet {
			b.u32(unix.NFTA_SET_ELEM_LIST_SET_ID, b.sets)
		}
		list := b.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		for i, e := range chunk {
			req.offs[i] = uint32(len(b.buf) - start)
			b.element(s, e)
		}
		b.close(list)
		end()
	}
}

func (b *batch) element(s nftables.Set, e nftables.Element) {
	n := b.nest(unix.NFTA_LIST_ELEM)
	b.value(unix.NFTA_SET_ELEM_KEY, e.Key)
	if s.Interval && !s.Ranges() {
		b.value(setElemKeyEnd, e.End)
	}
	switch {
	case s.Verdict:
		d := b.nest(unix.NFTA_SET_ELEM_DATA)
		b.verdict(e.Data)
		b.close(d)
	case s.Data != nil:
		b.value(unix.NFTA_SET_ELEM_DATA, e.Data)
	}
	if e.Comment != "" {
		b.bytes(unix.NFTA_SET_ELEM_USERDATA, commentData(e.Comment))
	}
	b.close(n)
	// Without a concatenation a range ends with an element of its own: the key after it, if there is one.
	if after, ok := next(e.End); s.Ranges() && ok {
		n := b.nest(unix.NFTA_LIST_ELEM)
		b.u32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
		b.value(unix.NFTA_SET_ELEM_KEY, after)
		b.close(n)
	}
}

// setElemKeyEnd is NFTA_SET_ELEM_KEY_END, since Linux 5.6.
const setElemKeyEnd = 10

func (b *batch) value(typ uint16, data string) {
	n := b.nest(typ)
	b.bytes(unix.NFTA_DATA_VALUE, data)
	b.close(n)
}

func (b *batch) verdict(text string) {
	code := int32(nfDrop)
	verb, target, ok := strings.Cut(text, " ")
	switch verb {
	case "goto":
		code = unix.NFT_GOTO
	case "jump":
		code = unix.NFT_JUMP
	}
	n := b.nest(unix.NFTA_DATA_VERDICT)
	b.u32(unix.NFTA_VERDICT_CODE, uint32(code))
	if ok {
		b.str(unix.NFTA_VERDICT_CHAIN, target)
	}
	b.close(n)
}

// next is the key after key; false if there is none.
func next(key string) (string, bool) {
	b := []byte(key)
	for i := len(b) - 1; i >= 0; i-- {
		b[i]++
		if b[i] != 0 {
			return string(b), true
		}
	}
	return "", false
}

// before is the key before key, which is not zero.
func before(key string) string {
	b := []byte(key)
	for i := len(b) - 1; i >= 0; i-- {
		b[i]--
		if b[i] != 0xff {
			break
		}
	}
	return string(b)
}
