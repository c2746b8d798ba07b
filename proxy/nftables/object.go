package nftables

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Set is a set or map.
type Set struct {
	Name     string
	Key      []Field
	Data     []Field // of a map to addresses and ports
	Verdict  bool    // a verdict map
	Interval bool
	dynamic  bool // filled by rules, elements time out
}

// Ranges reports whether each element is a start and an end element (rbtree)
// instead of one element with two keys (concatenations).
func (s Set) Ranges() bool { return s.Interval && len(s.Key) == 1 }

// IsMap reports whether elements have data or a verdict.
func (s Set) IsMap() bool { return s.Verdict || s.Data != nil }

func (s Set) name() string { return s.Name }

func (s Set) String() string {
	var b strings.Builder
	kind := "set"
	if s.IsMap() {
		kind = "map"
	}
	fmt.Fprintf(&b, "%s %s { type %s", kind, s.Name, FieldNames(s.Key))
	if s.Verdict {
		b.WriteString(" : verdict")
	} else if s.Data != nil {
		b.WriteString(" : " + FieldNames(s.Data))
	}
	if s.Interval {
		b.WriteString("; flags interval")
	}
	if s.dynamic {
		b.WriteString("; flags dynamic,timeout")
	}
	return b.String() + " }"
}

// FieldNames prints a type as nft does, such as "ipv4_addr . inet_proto".
func FieldNames(fs []Field) string {
	names := make([]string, len(fs))
	for i, f := range fs {
		names[i] = f.Name
	}
	return strings.Join(names, " . ")
}

// SetType is a set's properties as the kernel's numbers. Two sets with one type
// take the same elements.
type SetType struct {
	Flags, KeyType, KeyLen, DataType, DataLen uint32
}

// The flags of a SetType (enum nft_set_flags), and the DataType of verdicts.
const (
	flagInterval = 0x04
	flagMap      = 0x08
	flagTimeout  = 0x10
	flagDynamic  = 0x20 // NFT_SET_EVAL
	flagConcat   = 0x80

	verdictData = 0xffffff00 // NFT_DATA_VERDICT
)

// Ranges reports the same as Set.Ranges.
func (t SetType) Ranges() bool { return t.Flags&flagInterval != 0 && !t.Concat() }

// Concat reports whether the kernel must know the fields of the key.
func (t SetType) Concat() bool { return t.Flags&flagConcat != 0 }

// Dynamic reports whether rules fill the set.
func (t SetType) Dynamic() bool { return t.Flags&flagDynamic != 0 }

// Verdict reports whether it is a verdict map.
func (t SetType) Verdict() bool { return t.DataType == verdictData }

// Type returns s as numbers.
func (s Set) Type() SetType {
	var t SetType
	t.KeyType, t.KeyLen = typeOf(s.Key)
	switch {
	case s.Verdict:
		t.Flags, t.DataType = flagMap, verdictData
	case s.Data != nil:
		t.Flags = flagMap
		t.DataType, t.DataLen = typeOf(s.Data)
	}
	if s.Interval {
		t.Flags |= flagInterval
		if len(s.Key) > 1 {
			t.Flags |= flagConcat
		}
	}
	if s.dynamic {
		t.Flags |= flagDynamic | flagTimeout
	}
	return t
}

// typeOf is nft's number of a type or a concatenation of types, and the length
// in bytes.
func typeOf(fields []Field) (typ, length uint32) {
	if len(fields) == 1 {
		return fields[0].Type, uint32(fields[0].Len)
	}
	for _, f := range fields {
		typ = typ<<6 | f.Type
		length += uint32(f.padded())
	}
	return typ, length
}

// Hook is where a base chain is attached.
type Hook struct {
	Kind     string // "nat", "filter"
	Point    uint32
	Priority int32
}

// The points of a Hook, as the kernel numbers them (enum nf_inet_hooks).
const (
	pointPrerouting = iota
	pointInput
	pointForward
	pointOutput
	pointPostrouting
)

// Chain is a chain with its rules. Hook is nil if only other chains lead to it.
type Chain struct {
	Name  string
	Hook  *Hook
	Rules []Rule
}

func (c Chain) name() string { return c.Name }

func (c Chain) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "chain %s {", c.Name)
	if c.Hook != nil {
		fmt.Fprintf(&b, " type %s hook %d priority %d;", c.Hook.Kind, c.Hook.Point, c.Hook.Priority)
	}
	for _, r := range c.Rules {
		b.WriteString("\n\t" + r.Text)
	}
	return b.String() + "\n}"
}

// ChainType is what the kernel gives back of a chain: its Hook, the zero value if
// it has none, and the hashes of its rules, one after the other. A rule that is not
// ours has another hash than each of ours.
type ChainType struct {
	Hook   Hook
	Hashes string
}

// Type returns c as the kernel gives it back.
func (c Chain) Type() ChainType {
	var t ChainType
	if c.Hook != nil {
		t.Hook = *c.Hook
	}
	for _, r := range c.Rules {
		t.Hashes += r.Hash
	}
	return t
}

// Element is one element of a named set or map of one family. Key, End and
// Data hold the bytes that the kernel holds. End is the last key of a range; where
// there is no range it equals Key or is empty. Data is the verdict as nft prints it
// ("goto lb-2") if the map is a verdict map.
type Element struct {
	Set, Key, End, Data, Comment string
}

// Compare is the order of a table's elements: by set, key and end.
func (e Element) Compare(o Element) int {
	return cmp.Or(strings.Compare(e.Set, o.Set), strings.Compare(e.Key, o.Key), strings.Compare(e.End, o.End))
}

// Text prints an element of s as nft does.
func (e Element) Text(s Set) string {
	text := fieldsText(s.Key, e.Key)
	if e.End != "" && e.End != e.Key {
		text += "-" + fieldsText(s.Key, e.End)
	}
	if e.Comment != "" {
		text += fmt.Sprintf(" comment %q", e.Comment)
	}
	switch {
	case s.Verdict:
		text += " : " + e.Data
	case s.Data != nil:
		text += " : " + fieldsText(s.Data, e.Data)
	}
	return text
}

// protoText is the name of a protocol as nft lists it.
func protoText(number byte) string {
	switch number {
	case IP4.icmp:
		return "icmp"
	case IP6.icmp:
		return "ipv6-icmp"
	}
	return snapshot.Protocol(number).String()
}

func fieldsText(fields []Field, s string) string {
	parts := make([]string, 0, len(fields))
	for _, f := range fields {
		if len(s) < f.Len {
			return "?"
		}
		switch f {
		case fieldProto:
			parts = append(parts, protoText(s[0]))
		case FieldLink:
			parts = append(parts, strings.TrimRight(s[:f.Len], "\x00"))
		case fieldService:
			parts = append(parts, fmt.Sprint(binary.BigEndian.Uint16([]byte(s))))
		default:
			a, _ := netip.AddrFromSlice([]byte(s[:f.Len]))
			parts = append(parts, a.String())
		}
		s = s[min(len(s), f.padded()):]
	}
	return strings.Join(parts, " . ")
}
