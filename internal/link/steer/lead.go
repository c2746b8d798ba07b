package steer

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Lead is a rule that leads packets to a routing table of the node's own: those whose mark has
// the value Mark in the bits of Mask. The table's default route does not count. What has this
// place among the rules and leads to this table is the caller's alone.
type Lead struct {
	Priority, Table int
	Mark, Mask      uint32
}

// Set makes the kernel of this network namespace have the rule in both families, or in none.
func (l Lead) Set(on bool) error {
	var errs []error
	for _, f := range families {
		errs = append(errs, l.set(f, on))
	}
	return errors.Join(errs...)
}

func (l Lead) set(family int, on bool) error {
	all, err := netlink.RuleList(family)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("list routing rules: %w", err)
	}
	has, errs := false, []error(nil)
	for _, r := range all {
		if r.Priority != l.Priority || r.Table != l.Table {
			continue
		}
		found := Lead{r.Priority, r.Table, r.Mark, 0}
		if r.Mask != nil {
			found.Mask = *r.Mask
		}
		if on && found == l {
			has = true
		} else if err := netlink.RuleDel(found.rule(family)); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("no longer lead the mark %#x to table %d: %w", found.Mark, l.Table, err))
		}
	}
	if on && !has && err == nil {
		if err := netlink.RuleAdd(l.rule(family)); err != nil && !errors.Is(err, os.ErrExist) {
			errs = append(errs, fmt.Errorf("lead the mark %#x to table %d: %w", l.Mark, l.Table, err))
		}
	}
	return errors.Join(errs...)
}

func (l Lead) rule(family int) *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table, r.Mark, r.Mask = family, l.Priority, l.Table, l.Mark, &l.Mask
	r.SuppressPrefixlen = 0
	return r
}
