// Package owntable writes small nftables tables of ours. Each is written whole, in one
// transaction, and again when somebody changed it.
package owntable

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/google/nftables"
)

// Table is one table.
type Table struct {
	Name   string
	Netns  int                  // network namespace, a file descriptor; 0: the caller's
	Family nftables.TableFamily // 0: inet
}

func (t Table) family() nftables.TableFamily { return cmp.Or(t.Family, nftables.TableFamilyINet) }

// Open returns a connection to the kernel.
func (t Table) Open() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.WithNetNSFd(t.Netns))
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	return c, nil
}

// Kernel is the table in messages to the kernel.
func (t Table) Kernel() *nftables.Table {
	return &nftables.Table{Name: t.Name, Family: t.family()}
}

// Delete appends the table's removal to what c will send.
func (t Table) Delete(c *nftables.Conn) {
	c.AddTable(t.Kernel()) // or removing it would fail if it were not there
	c.DelTable(t.Kernel())
}

// Remove removes the table, if it is there.
func (t Table) Remove() error {
	c, err := t.Open()
	if err != nil {
		return err
	}
	t.Delete(c)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("remove table %s: %w", t.Name, err)
	}
	return nil
}

// Intact reports whether the kernel holds the table with these chains and no others, each with
// as many rules, which all have the mark as their user data. Without chains, it reports whether
// the kernel holds none of the table's.
func (t Table) Intact(c *nftables.Conn, chains map[string]int, mark string) (bool, error) {
	all, err := c.ListChainsOfTableFamily(t.family())
	if err != nil {
		return false, fmt.Errorf("list chains: %w", err)
	}
	found := 0
	for _, ch := range all {
		if ch.Table.Name != t.Name {
			continue
		}
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			return false, fmt.Errorf("list rules of %s: %w", ch.Name, err)
		}
		other := func(r *nftables.Rule) bool { return string(r.UserData) != mark }
		if want, ours := chains[ch.Name]; !ours || len(rules) != want || slices.ContainsFunc(rules, other) {
			return false, nil
		}
		found++
	}
	return found == len(chains), nil
}

// Mark returns a comment, as nft keeps it in a rule's user data, that names what the rules of a
// table are made of.
func Mark(of []byte) string {
	sum := sha256.Sum256(of)
	text := fmt.Sprintf("fairlead %x", sum[:8])
	return string([]byte{0, byte(len(text) + 1)}) + text + "\x00"
}
