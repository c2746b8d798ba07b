package nftables

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"

	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// Ruleset is what the two tables shall hold: a Table, the Slots of its Frontends,
// and each family's Layout. What is in the kernel's sets follows from it. A Ruleset
// is a value that is never changed; Next and Adopt make the one after it.
type Ruleset struct {
	Table   *proxy.Table
	Layouts map[*Family]*Layout
	slots   diff.Blocks[*Slots] // as Table.Frontends
}

// Next plans from r, which the kernel still holds: it returns the Ruleset of t, and
// a Patch for each family. t must not be changed afterwards. A Frontend that is the
// same pointer in r and t is taken to be unchanged.
func (r *Ruleset) Next(t *proxy.Table) (*Ruleset, []*Patch) {
	next := &Ruleset{Table: t, Layouts: map[*Family]*Layout{}}
	var changes []change
	next.slots, changes = r.place(t)
	patches := make([]*Patch, 0, len(Families))
	for _, f := range Families {
		if r.Layouts[f] == nil {
			continue // the kernel has no rules for it
		}
		p := r.patch(next, f, ofFamily(f, changes))
		next.Layouts[f] = p.Layout
		patches = append(patches, p)
	}
	return next, patches
}

// Adopt plans from what the kernel holds, compared element by element and rule by
// rule: it returns the Ruleset of t, and a Patch for each family. A table of ours with
// other rules, of another version for example, keeps what its maps hold and gets our
// rules. With replace, or if a table is not ours at all, it is made again from nothing.
// mark is the one bit that the rules use of a packet's mark.
func Adopt(kernel []*Kernel, t *proxy.Table, mark uint32, replace bool) (*Ruleset, []*Patch) {
	held := map[snapshot.Family]map[string]*Slots{}
	for _, k := range kernel {
		held[k.Family.ID] = k.parse()
	}
	slots, changes := adopt(held, t)
	return plan(kernel, &Ruleset{Table: t, slots: diff.BlocksOf(slots)}, changes, mark, replace)
}

// Repair is Adopt for tables that held r before somebody else changed them: endpoints
// keep the slots that they have in r.
func (r *Ruleset) Repair(kernel []*Kernel, t *proxy.Table, mark uint32, replace bool) (*Ruleset, []*Patch) {
	slots, changes := r.place(t)
	return plan(kernel, &Ruleset{Table: t, slots: slots}, changes, mark, replace)
}

// plan plans next from what the kernel holds.
func plan(kernel []*Kernel, next *Ruleset, changes []change, mark uint32, replace bool) (*Ruleset, []*Patch) {
	next.Layouts = map[*Family]*Layout{}
	patches := make([]*Patch, 0, len(kernel))
	for _, k := range kernel {
		p := k.patch(next, mark, replace)
		p.changes = ofFamily(k.Family, changes)
		next.Layouts[k.Family] = p.Layout
		patches = append(patches, p)
	}
	return next, patches
}

// ofFamily returns the changes of one family.
func ofFamily(f *Family, changes []change) []change {
	var out []change
	for _, c := range changes {
		if c.newOrOld().Family == f.ID {
			out = append(out, c)
		}
	}
	return out
}

// Drifted reports whether the kernel holds something else than r, which the last
// Sync left.
func (r *Ruleset) Drifted(kernel []*Kernel) bool {
	for _, k := range kernel {
		if !k.Exists || !k.ours() {
			return true
		}
		p, ok := k.grow(r.Layouts[k.Family])
		if !ok || p.static() {
			return true
		}
		if lost, found := lostAndNew(k.Elements, r.Elements(k.Family), Element.Compare); len(lost)+len(found) > 0 {
			return true
		}
	}
	return false
}

// DefaultMark is the bit that marks a packet for masquerading. kube-proxy has
// 0x4000, kubelet 0x8000, Calico 0xffff0000, Cilium 0x0f00.
const DefaultMark = 0x2000

// Marks are the bits of a packet's mark by which the director tells the rules what to do, and
// that of the rules themselves for masquerading.
type Marks struct{ Serve, Reset, Masquerade uint32 }

// MarksBeside returns the director's bits where the rules use mark between themselves.
func MarksBeside(mark uint32) Marks {
	free := slices.DeleteFunc([]uint32{0x1000, 0x80, 0x40}, func(bit uint32) bool { return bit == mark })
	return Marks{free[0], free[1], mark}
}

// kubeProxyMark is the bit that kube-proxy uses, and whose rules may still be
// there while fairlead takes over from it.
const kubeProxyMark = 0x4000

// ParseMark reads a mark of one bit, as "0x2000" or "8192". It refuses other numbers, and the
// bit of kube-proxy.
func ParseMark(text string) (uint32, error) {
	mark, err := strconv.ParseUint(text, 0, 32)
	switch {
	case err != nil || bits.OnesCount64(mark) != 1:
		return 0, fmt.Errorf("%q is not a number with one bit set", text)
	// Its rules may be there during a change-over, and would masquerade by our mark.
	case mark == kubeProxyMark:
		return 0, fmt.Errorf("%#x is the bit that kube-proxy uses", mark)
	}
	return uint32(mark), nil
}
