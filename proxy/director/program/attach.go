package program

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkPin is what the pin of a link at tcx is named, with the index of the network's link
// behind it.
const linkPin = "link-"

// The filter of clsact is known by its name and number.
const (
	filterName     = "fairlead-director"
	filterPriority = 1
	filterHandle   = 0xfa1
)

// hasTCX reports whether the kernel has the hook. It asks for a link that does not exist:
// a kernel without the hook refuses the kind of request first.
func hasTCX() bool {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return false
	}
	defer func() { _ = prog.Close() }()
	_, err = link.AttachTCX(link.TCXOptions{Interface: 1<<31 - 1, Program: prog, Attach: ebpf.AttachTCXIngress})
	return errors.Is(err, unix.ENODEV)
}

// Attach has the program see what comes in by the links, which are indexes, and by no
// others. A program that is there is replaced in one step, with its maps: no packet
// passes between the two.
//
// A link that it cannot be attached to does not keep it from the others. Each is of
// Ethernet.
func (p *Program) Attach(links []int) error {
	wanted := map[int]bool{}
	var failed []error
	for _, l := range links {
		wanted[l] = true
		if err := p.attach(l); err != nil {
			failed = append(failed, fmt.Errorf("attach the director to link %d: %w", l, err))
		}
	}
	if _, err := detach(p.opt.Pins, func(l int) bool { return !wanted[l] }); err != nil {
		failed = append(failed, err)
	}
	if len(failed) > 0 {
		return errors.Join(failed...) // the maps of another version may still be in use
	}
	return p.removeOtherLayouts()
}

func (p *Program) attach(index int) error {
	l, err := netlink.LinkByIndex(index)
	if err != nil {
		return err
	}
	if l.Attrs().EncapType != "ether" {
		return fmt.Errorf("%s is not Ethernet, but %s", l.Attrs().Name, l.Attrs().EncapType)
	}
	if p.ability.TCX {
		return p.attachTCX(index)
	}
	return p.attachFilter(index)
}

func (p *Program) attachTCX(index int) error {
	pin := filepath.Join(p.opt.Pins, linkPin+strconv.Itoa(index))
	old, err := link.LoadPinnedLink(pin, nil)
	if err == nil {
		defer func() { _ = old.Close() }() // it is pinned
		if info, err := old.Info(); err == nil && info.TCX() != nil && int(info.TCX().Ifindex) == index {
			return old.Update(p.prog)
		}
		// The network's link has gone, and its index is another's now.
		if err := os.Remove(pin); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	now, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: p.prog, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
	if err != nil {
		return err
	}
	defer func() { _ = now.Close() }() // it is pinned
	return now.Pin(pin)
}

// attachFilter makes a filter of clsact. Making one that is there replaces its program.
func (p *Program) attachFilter(index int) error {
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	if err := netlink.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("clsact: %w", err)
	}
	return netlink.FilterReplace(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: filterHandle, Priority: filterPriority, Protocol: unix.ETH_P_ALL,
		},
		Fd: p.prog.FD(), Name: filterName, DirectAction: true,
	})
}

// Remove detaches the program from all links, and removes its maps, also those of an
// earlier or later version, and its tables of nftables. It returns how many links it was
// attached to. pins is Options.Pins.
func Remove(pins string) (int, error) {
	n, err := detach(pins, func(int) bool { return true })
	if err != nil {
		return n, err
	}
	if err := removeHelper(); err != nil {
		return n, err
	}
	if _, err := os.Lstat(pins); errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err := os.RemoveAll(pins); err != nil {
		return n, fmt.Errorf("remove the director's maps: %w", err)
	}
	return n, nil
}

// detach detaches the program from links, and returns from how many.
func detach(pins string, from func(index int) bool) (n int, err error) {
	found, err := os.ReadDir(pins)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("read the director's pins: %w", err)
	}
	for _, e := range found {
		text, ok := strings.CutPrefix(e.Name(), linkPin)
		index, err := strconv.Atoi(text)
		if !ok || err != nil || !from(index) {
			continue
		}
		if err := os.Remove(filepath.Join(pins, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return n, fmt.Errorf("detach the director from link %d: %w", index, err)
		}
		n++
	}
	filters, err := detachFilters(from)
	return n + filters, err
}

func detachFilters(from func(index int) bool) (n int, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return 0, fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		index := l.Attrs().Index
		if !from(index) {
			continue
		}
		filters, err := netlink.FilterList(l, netlink.HANDLE_MIN_INGRESS)
		if err != nil {
			continue // it has no clsact
		}
		for _, f := range filters {
			b, ok := f.(*netlink.BpfFilter)
			if !ok || b.Name != filterName {
				continue
			}
			if err := netlink.FilterDel(b); err != nil && !errors.Is(err, unix.ENOENT) {
				return n, fmt.Errorf("detach the director from %s: %w", l.Attrs().Name, err)
			}
			n++
			if err := removeEmptyQdisc(l); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// removeEmptyQdisc removes a clsact that nobody has filters at. It costs each packet of
// the link a look.
func removeEmptyQdisc(l netlink.Link) error {
	for _, at := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		if filters, err := netlink.FilterList(l, at); err != nil || len(filters) > 0 {
			return nil //nolint:nilerr // what cannot be read is somebody's
		}
	}
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	if err := netlink.QdiscDel(qdisc); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("remove clsact of %s: %w", l.Attrs().Name, err)
	}
	return nil
}

// removeOtherLayouts removes the maps of versions that no link uses any more.
func (p *Program) removeOtherLayouts() error {
	found, err := os.ReadDir(p.opt.Pins)
	if err != nil {
		return fmt.Errorf("read the director's pins: %w", err)
	}
	for _, e := range found {
		if !strings.HasPrefix(e.Name(), "maps-") || e.Name() == layout {
			continue
		}
		if err := os.RemoveAll(filepath.Join(p.opt.Pins, e.Name())); err != nil {
			return fmt.Errorf("remove the maps of another version: %w", err)
		}
	}
	return nil
}
