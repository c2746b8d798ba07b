// Package trace reads what Service proxies leave on a node, for package proxies. It changes
// nothing, and loads no module of the kernel.
package trace

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/fairlead/fairlead/internal/proxies"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport/socket"
)

// Reader reads what there is in the calling thread's network namespace. It is not safe for
// concurrent use.
type Reader struct {
	// Proc is /proc. Processes of other network namespaces are left out.
	Proc   fs.FS
	legacy legacy
}

// New returns a Reader of this machine.
func New() *Reader { return &Reader{Proc: os.DirFS("/proc")} }

// Read returns what can be seen now. What cannot be read is named in Unread.
func (r *Reader) Read() proxies.Facts {
	f := proxies.Facts{Objects: map[proxies.Object]string{}, Listening: map[uint16]bool{}, Processes: processes(r.Proc)}
	for _, o := range proxies.Objects() {
		print, there, err := r.look(o)
		switch {
		case err != nil:
			f.Unread = append(f.Unread, fmt.Sprintf("%s: %v", o, err))
		case there:
			f.Objects[o] = print
		}
	}
	sockets, err := socket.Read()
	if err != nil {
		f.Unread = append(f.Unread, err.Error())
	}
	for _, s := range sockets {
		if s.Protocol == snapshot.TCP {
			f.Listening[s.Addr.Port()] = true
		}
	}
	return f
}

// look returns whether o is there, and a text that differs when its owner wrote it again.
func (r *Reader) look(o proxies.Object) (print string, there bool, err error) {
	words := strings.Fields(o.Name)
	switch o.Kind {
	case proxies.Table:
		return table(words[0], words[1])
	case proxies.Chain:
		return chain(words[0], words[1], words[2])
	case proxies.Legacy:
		return r.legacy.look(r.Proc, words[0], words[1], words[2])
	case proxies.Link:
		return link(words[0])
	case proxies.Route:
		return route(words[0], netip.MustParseAddr(words[1]))
	}
	return "", false, errors.New("nobody knows how to look for it")
}

func link(name string) (print string, there bool, err error) {
	l, err := netlink.LinkByName(name)
	if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	return fmt.Sprint(l.Attrs().Index), true, nil
}

// route looks for the route to one address over a link.
func route(via string, to netip.Addr) (print string, there bool, err error) {
	index, there, err := link(via)
	if !there {
		return "", false, err
	}
	family := netlink.FAMILY_V4
	if to.Is6() {
		family = netlink.FAMILY_V6
	}
	dst := &net.IPNet{IP: to.AsSlice(), Mask: net.CIDRMask(to.BitLen(), to.BitLen())}
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{Dst: dst}, netlink.RT_FILTER_DST)
	if err != nil {
		return "", false, err
	}
	for _, rt := range routes {
		if fmt.Sprint(rt.LinkIndex) == index {
			return index, true, nil
		}
	}
	return "", false, nil
}

// processes returns the names of the processes of proxies in proc that are in the reader's
// network namespace. In a container without the host's processes these are its own alone. An
// agent looks every two seconds, and a node may have a thousand processes: of each it reads
// one file.
func processes(proc fs.FS) map[string]bool {
	out := map[string]bool{}
	all, err := fs.ReadDir(proc, ".")
	if err != nil {
		return out
	}
	sought := proxies.Processes()
	here, _ := fs.ReadLink(proc, "thread-self/ns/net")
	for _, dir := range all {
		pid := dir.Name()
		if pid[0] < '0' || pid[0] > '9' {
			continue
		}
		name, err := fs.ReadFile(proc, pid+"/comm")
		if err != nil || !sought[strings.TrimSpace(string(name))] {
			continue // after an error: it ended
		}
		// The namespace of a process with more rights cannot be read. Then it counts.
		space, err := fs.ReadLink(proc, pid+"/ns/net")
		if err != nil || here == "" || space == here {
			out[strings.TrimSpace(string(name))] = true
		}
	}
	return out
}
