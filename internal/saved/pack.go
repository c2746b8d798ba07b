package saved

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// coder writes a value, or reads it: each of its methods names the parts of one type in
// one order for both. Without w it reads from data.
type coder struct {
	w     io.Writer
	data  []byte
	err   error // the first one; later calls do nothing
	buf   []byte
	names []string          // those that name has met
	index map[string]uint64 // of names, while it writes
	hints snapshot.Hints    // of the endpoint that it is at: a variable would be garbage for each
}

var errShort = errors.New("it is damaged: it ends too early")

func newWriter(w io.Writer) *coder { return &coder{w: w, index: map[string]uint64{}} }

// amendment codes Services that had changed at a time.
func (c *coder) amendment(at *time.Time, services *[]*snapshot.Service) error {
	c.time(at)
	pointers(c, services, (*coder).service)
	return c.err
}

// snapshot codes what a large cluster has many of: Services with their endpoints, and
// addresses.
func (c *coder) snapshot(s *snapshot.Snapshot) {
	pointers(c, &s.Services, (*coder).service)
	pointers(c, &s.Addresses, (*coder).address)
	pointers(c, &s.NodeAddresses, (*coder).address)
}

func (c *coder) service(s *snapshot.Service) {
	c.name(&s.Namespace)
	c.text(&s.Name)
	c.text(&s.UID)
	c.time(&s.Created)
	c.texts(&s.Labels)
	c.texts(&s.Annotations)
	list(c, &s.Finalizers, (*coder).name)
	c.flags(&s.Deleting, &s.Headless, &s.PublishNotReady)
	name(c, &s.Type)
	list(c, &s.ClusterIPs, (*coder).addr)
	list(c, &s.ExternalIPs, (*coder).addr)
	list(c, &s.Ports, (*coder).port)
	name(c, &s.ExternalTrafficPolicy)
	name(c, &s.InternalTrafficPolicy)
	number(c, &s.Affinity)
	list(c, &s.SourceRanges, (*coder).name)
	number(c, &s.HealthCheckNodePort)
	c.name(&s.Class)
	c.text(&s.LoadBalancerIP)
	name(c, &s.FamilyPolicy)
	list(c, &s.Families, number[snapshot.Family])
	list(c, &s.Ingress, (*coder).ingress)
	c.conditions(&s.Conditions)
	c.texts(&s.Selector)
	list(c, &s.Endpoints, (*coder).endpoint)
	c.text(&s.LeftOut)
	name(c, &s.Forwarding)
	name(c, &s.Helper)
	c.flags(&s.ResetsRemoved, &s.KeepsPorts, &s.AllPorts, &s.Egress, &s.Anycast)
}

func (c *coder) port(p *snapshot.Port) {
	c.name(&p.Name)
	number(c, &p.Protocol)
	number(c, &p.Port)
	number(c, &p.NodePort)
}

func (c *coder) endpoint(e *snapshot.Endpoint) {
	c.name(&e.PortName)
	number(c, &e.Protocol)
	addr, port := e.Addr.Addr(), e.Addr.Port()
	c.addr(&addr)
	number(c, &port)
	e.Addr = netip.AddrPortFrom(addr, port)
	c.name(&e.Node)
	c.name(&e.Zone)
	c.flags(&e.Ready, &e.Serving, &e.Terminating)
	c.hints = snapshot.Hints{ZoneHints: e.ForZones(), NodeHints: e.ForNodes()}
	list(c, &c.hints.ZoneHints, (*coder).name)
	list(c, &c.hints.NodeHints, (*coder).name)
	if e.Hints == nil && len(c.hints.ZoneHints)+len(c.hints.NodeHints) > 0 {
		e.Hints = &snapshot.Hints{ZoneHints: c.hints.ZoneHints, NodeHints: c.hints.NodeHints}
	}
}

func (c *coder) ingress(in *snapshot.Ingress) {
	c.addr(&in.IP)
	c.text(&in.Hostname)
	c.flags(&in.Proxy)
}

func (c *coder) address(a *snapshot.Address) {
	c.addr(&a.Addr)
	c.text(&a.UID)
	c.text(&a.ResourceVersion)
	c.time(&a.Created)
	c.name(&a.Pool)
	c.name(&a.Node)
	c.name(&a.Lease)
	c.name(&a.ShareKey)
	c.name(&a.ShareGroup)
	list(c, &a.Holders, (*coder).holder)
	c.name(&a.Freed.Namespace)
	c.time(&a.Freed.At)
	c.flags(&a.Deleting)
	c.time(&a.ProbedAt)
	c.name(&a.Conflict)
	c.name(&a.Conflicting)
}

func (c *coder) holder(h *snapshot.Holder) {
	c.name(&h.Namespace)
	c.text(&h.Name)
	c.text(&h.UID)
	c.name(&h.Pool)
	list(c, &h.Ports, (*coder).heldPort)
	list(c, &h.Ranges, (*coder).portRange)
}

func (c *coder) heldPort(p *snapshot.HeldPort) {
	number(c, &p.Protocol)
	number(c, &p.Port)
}

func (c *coder) portRange(r *snapshot.PortRange) {
	number(c, &r.Protocol)
	number(c, &r.First)
	number(c, &r.Last)
}

func (c *coder) conditions(all *map[string]snapshot.Condition) {
	entries(c, all, func(c *coder, v *snapshot.Condition) {
		c.name(&v.Status)
		c.name(&v.Reason)
		c.text(&v.Message)
	})
}

// texts codes labels and the like.
func (c *coder) texts(all *map[string]string) { entries(c, all, (*coder).name) }

// entries codes a map; an empty one is nil.
func entries[V any](c *coder, all *map[string]V, value func(*coder, *V)) {
	n := c.length(len(*all))
	if c.w != nil {
		for k, v := range *all {
			c.name(&k)
			value(c, &v)
		}
		return
	}
	for range n {
		var k string
		var v V
		c.name(&k)
		value(c, &v)
		if c.err != nil {
			return
		}
		if *all == nil {
			*all = make(map[string]V, n)
		}
		(*all)[k] = v
	}
}

// list codes a list; an empty one is nil.
func list[T any](c *coder, all *[]T, item func(*coder, *T)) {
	n := c.length(len(*all))
	if c.w == nil && n > 0 {
		*all = make([]T, n)
	}
	for i := range *all {
		item(c, &(*all)[i])
	}
}

// pointers codes a list whose items are pointers, never nil.
func pointers[T any](c *coder, all *[]*T, item func(*coder, *T)) {
	list(c, all, func(c *coder, v **T) {
		if *v == nil {
			*v = new(T)
		}
		item(c, *v)
	})
}

// length codes how many items follow. Each takes at least a byte.
func (c *coder) length(n int) int {
	v := uint64(n) //nolint:gosec // it is not negative
	c.uint(&v)
	if c.w == nil && v > uint64(len(c.data)) {
		c.fail(errShort)
		return 0
	}
	return int(v) //nolint:gosec // it is within data
}

// name codes a text that others are likely to share.
func (c *coder) name(s *string) {
	if c.w == nil {
		c.readName(s)
		return
	}
	i, met := c.index[*s]
	if !met {
		i = uint64(len(c.index))
		c.index[*s] = i
	}
	c.uint(&i)
	if !met {
		c.text(s)
	}
}

func (c *coder) readName(s *string) {
	var i uint64
	c.uint(&i)
	switch {
	case i < uint64(len(c.names)):
		*s = c.names[i]
	case i == uint64(len(c.names)):
		c.text(s)
		c.names = append(c.names, *s)
	default:
		c.fail(errShort)
	}
}

// name codes a text of another type.
func name[T ~string](c *coder, v *T) {
	s := string(*v)
	c.name(&s)
	*v = T(s)
}

func (c *coder) text(s *string) {
	n := c.length(len(*s))
	if c.w != nil {
		c.write(append(c.buf[:0], *s...))
		return
	}
	*s = string(c.read(n))
}

func (c *coder) time(t *time.Time) {
	var n int64
	if !t.IsZero() {
		n = t.UnixNano()
	}
	number(c, &n)
	if c.w == nil && n != 0 {
		*t = time.Unix(0, n).UTC()
	}
}

// addr codes an address. An invalid one has no bytes.
func (c *coder) addr(a *netip.Addr) {
	if c.w != nil {
		zone := a.Zone()
		b, _ := a.WithZone("").AppendBinary(append(c.buf[:0], 0)) // it never fails
		b[0] = byte(len(b) - 1)
		c.write(b)
		c.name(&zone)
		return
	}
	var zone string
	b := c.read(1)
	if len(b) == 1 {
		b = c.read(int(b[0]))
	}
	c.name(&zone)
	if c.err == nil {
		if err := a.UnmarshalBinary(b); err != nil {
			c.fail(err)
		}
		*a = a.WithZone(zone)
	}
}

// flags codes up to eight of them.
func (c *coder) flags(all ...*bool) {
	var v byte
	for i, f := range all {
		if *f {
			v |= 1 << i
		}
	}
	number(c, &v)
	for i, f := range all {
		*f = v&(1<<i) != 0
	}
}

// number codes any integer.
func number[T ~int64 | ~uint8 | ~uint16](c *coder, v *T) {
	n := uint64(*v)
	c.uint(&n)
	*v = T(n)
}

func (c *coder) uint(v *uint64) {
	if c.w != nil {
		c.write(binary.AppendUvarint(c.buf[:0], *v))
		return
	}
	n, size := binary.Uvarint(c.data)
	if size <= 0 {
		c.fail(errShort)
		*v = 0
		return
	}
	*v, c.data = n, c.data[size:]
}

// write writes b, and keeps its memory for the next one.
func (c *coder) write(b []byte) {
	if c.buf = b; c.err == nil {
		_, c.err = c.w.Write(b)
	}
}

func (c *coder) read(n int) []byte {
	if n > len(c.data) {
		c.fail(errShort)
		return nil
	}
	out := c.data[:n]
	c.data = c.data[n:]
	return out
}

// fail keeps the first error, and lets nothing more be read.
func (c *coder) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.data = nil
}
