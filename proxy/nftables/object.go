package nftables

import (
	"fmt"
	"strings"
)

// setSpec is a set or map.
type setSpec struct {
	name     string
	key      []field
	data     []field // of a map to addresses and ports
	verdict  bool    // a verdict map
	interval bool
	dynamic  bool // filled by rules, elements time out
}

// ranges tells whether each element is a start and an end element (rbtree)
// rather than one element with two keys (concatenations).
func (s setSpec) ranges() bool { return s.interval && len(s.key) == 1 }

func (s setSpec) isMap() bool { return s.verdict || s.data != nil }

func (s setSpec) String() string {
	var b strings.Builder
	kind := "set"
	if s.isMap() {
		kind = "map"
	}
	fmt.Fprintf(&b, "%s %s { type %s", kind, s.name, fieldNames(s.key))
	if s.verdict {
		b.WriteString(" : verdict")
	} else if s.data != nil {
		b.WriteString(" : " + fieldNames(s.data))
	}
	if s.interval {
		b.WriteString("; flags interval")
	}
	if s.dynamic {
		b.WriteString("; flags dynamic,timeout")
	}
	return b.String() + " }"
}

func fieldNames(fs []field) string {
	names := make([]string, len(fs))
	for i, f := range fs {
		names[i] = f.name
	}
	return strings.Join(names, " . ")
}

// hook is where a base chain is attached.
type hook struct {
	kind     string
	num      uint32
	priority int32
}

// chain is a chain with its rules.
type chain struct {
	name  string
	hook  *hook
	rules []rule
}

func (c chain) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "chain %s {", c.name)
	if c.hook != nil {
		fmt.Fprintf(&b, " type %s hook %d priority %d;", c.hook.kind, c.hook.num, c.hook.priority)
	}
	for _, r := range c.rules {
		b.WriteString("\n\t" + r.text)
	}
	return b.String() + "\n}"
}

// objects are the sets and chains of one table, in an order in which the
// kernel accepts them: rules are added after all sets and chains.
type objects struct {
	sets   []setSpec
	chains []chain
}
