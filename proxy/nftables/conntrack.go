package nftables

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// flow is a UDP connection that the kernel remembers: where the client sends
// to, and who answers. As long as the client keeps sending, the kernel keeps
// sending to that one: nothing else ends a UDP flow.
type flow struct {
	to, from netip.AddrPort
}

// staleFlow tells whether f goes to a Frontend of t but to none of its
// endpoints, or to a Frontend in changed that t no longer has.
func staleFlow(f flow, t *proxy.Table, changed map[proxy.Key]bool) bool {
	family := snapshot.FamilyOf(f.to.Addr())
	for _, kind := range []proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.ExternalIP, proxy.NodePort} {
		key := proxy.Key{Kind: kind, Family: family, Addr: f.to.Addr(), Protocol: snapshot.UDP, Port: f.to.Port()}
		if kind == proxy.NodePort {
			if !slices.Contains(t.NodePortAddrs, f.to.Addr()) {
				return false
			}
			key.Addr = netip.Addr{}
		}
		if front := t.Frontend(key); front != nil {
			_, cluster := find(front.Cluster, f.from)
			_, local := find(front.Local, f.from)
			return !cluster && !local
		}
		if changed[key] {
			return true
		}
	}
	return false
}

// udpChanges adds to keys the Frontends that changed so that a flow may be left
// with the wrong endpoint: one lost an endpoint or went away, or got its first
// one (until then datagrams may have passed untranslated).
func udpChanges(changes []change, keys map[proxy.Key]bool) {
	for _, c := range changes {
		if c.any().Protocol != snapshot.UDP {
			continue
		}
		if c.new == nil || c.old == nil || len(c.old.Cluster) == 0 ||
			lost(c.old.Cluster, c.new.Cluster) || lost(c.old.Local, c.new.Local) {
			keys[c.any().Key] = true
		}
	}
}

// lost tells whether an endpoint of old is not in now.
func lost(old, now []netip.AddrPort) bool {
	return slices.ContainsFunc(old, func(ep netip.AddrPort) bool {
		_, ok := find(now, ep)
		return !ok
	})
}

// Attributes and flags of ctnetlink that x/sys/unix lacks.
const (
	ctGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1
	ctDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2

	ctaTupleOrig, ctaTupleReply, ctaID, ctaZone, ctaFilter = 1, 2, 12, 18, 25
	ctaTupleIP, ctaTupleProto                              = 1, 2
	ctaProtoNum, ctaProtoSrcPort, ctaProtoDstPort          = 1, 2, 3

	filterDst, filterProto, filterDstPort = 1 << 1, 1 << 3, 1 << 5
)

// manyKeys is when it is better to have the kernel list all UDP flows once
// than those of each Frontend.
const manyKeys = 32

// endFlows deletes the flows to the Frontends in changed that staleFlow finds
// with t, and returns how many.
func (c *conn) endFlows(ctx context.Context, t *proxy.Table, changed map[proxy.Key]bool) (int, error) {
	keys := []proxy.Key{}
	for k := range changed {
		keys = append(keys, k)
	}
	if len(keys) > manyKeys {
		keys = []proxy.Key{{Family: snapshot.IPv4}, {Family: snapshot.IPv6}}
	}
	slices.SortFunc(keys, proxy.Key.Compare)
	total := 0
	for _, k := range keys {
		b := &batch{seq: c.seq, requests: map[uint32]*request{}}
		if err := c.staleFlows(ctx, k, b, func(f flow) bool { return staleFlow(f, t, changed) }); err != nil {
			return total, fmt.Errorf("list UDP flows: %w", explain(err))
		}
		n, err := c.deleteFlows(b)
		if total += n; err != nil {
			return total, fmt.Errorf("end UDP flows: %w", explain(err))
		}
	}
	return total, nil
}

// staleFlows adds to b the deletion of each flow to key that match says. A key
// without port or address is any. Kernels before 5.8 list more than was asked
// for.
func (c *conn) staleFlows(ctx context.Context, key proxy.Key, b *batch, match func(flow) bool) error {
	f := ip4
	if key.Family == ip6.id {
		f = ip6
	}
	err := errInterrupted // on a busy node the list changes while it is read
	for tries := 0; tries < 5 && errors.Is(err, errInterrupted); tries++ {
		err = c.get(ctx, ctGet, f.nf, true, func(b *batch) { b.flowFilter(f, key) }, func(m message) error {
			if fl, ok := parseFlow(m.data); ok && match(fl) {
				b.deleteFlow(f, m.data)
			}
			return nil
		})
	}
	if errors.Is(err, errInterrupted) {
		return nil // what was listed was right
	}
	return err
}

// flowFilter asks for the UDP flows to key only. It does not name an IPv6
// address: Linux 6.18 lists the flows to all other addresses then.
func (b *batch) flowFilter(f *family, key proxy.Key) {
	flags := uint32(filterProto)
	tuple := b.nest(ctaTupleOrig)
	if key.Addr.Is4() {
		flags |= filterDst
		ip := b.nest(ctaTupleIP)
		b.bytes(f.ctaDst(), bytesOf(key.Addr))
		b.close(ip)
	}
	proto := b.nest(ctaTupleProto)
	b.attr(ctaProtoNum, []byte{unix.IPPROTO_UDP})
	if key.Port != 0 {
		flags |= filterDstPort
		b.attr(ctaProtoDstPort, binary.BigEndian.AppendUint16(nil, key.Port))
	}
	b.close(proto)
	b.close(tuple)
	filter := b.nest(ctaFilter)
	b.attr(1, host(flags)) // CTA_FILTER_ORIG_FLAGS
	b.attr(2, host(0))     // CTA_FILTER_REPLY_FLAGS
	b.close(filter)
}

// ctaSrc and ctaDst are CTA_IP_V4_SRC or CTA_IP_V6_SRC, and so on.
func (f *family) ctaSrc() uint16 {
	if f == ip6 {
		return 3
	}
	return 1
}

func (f *family) ctaDst() uint16 { return f.ctaSrc() + 1 }

// parseFlow reads a flow; false if it is no UDP flow.
func parseFlow(data []byte) (flow, bool) {
	orig, reply := attribute(data, ctaTupleOrig), attribute(data, ctaTupleReply)
	to, ok := tupleEnd(orig, (*family).ctaDst, ctaProtoDstPort)
	from, also := tupleEnd(reply, (*family).ctaSrc, ctaProtoSrcPort)
	return flow{to, from}, ok && also
}

func tupleEnd(tuple []byte, addr func(*family) uint16, port uint16) (netip.AddrPort, bool) {
	ip, proto := attribute(tuple, ctaTupleIP), attribute(tuple, ctaTupleProto)
	num, p := attribute(proto, ctaProtoNum), attribute(proto, port)
	if len(num) != 1 || num[0] != unix.IPPROTO_UDP || len(p) != 2 {
		return netip.AddrPort{}, false
	}
	for _, f := range families {
		if a, ok := netip.AddrFromSlice(attribute(ip, addr(f))); ok {
			return netip.AddrPortFrom(a, binary.BigEndian.Uint16(p)), true
		}
	}
	return netip.AddrPort{}, false
}

// deleteFlow adds the deletion of a flow as it was listed; the id makes sure
// that it is that one and not its successor.
func (b *batch) deleteFlow(f *family, listed []byte) {
	end := b.message(ctDelete, 0, f.nf, "end a flow")
	for typ, v := range attributes(listed) {
		switch typ {
		case ctaTupleOrig:
			b.attr(typ|unix.NLA_F_NESTED, v)
		case ctaID, ctaZone:
			b.attr(typ, v)
		}
	}
	end()
}

// deleteFlows sends b, a datagram at a time, and returns how many flows went.
func (c *conn) deleteFlows(b *batch) (int, error) {
	c.seq = max(c.seq, b.seq)
	if len(b.buf) == 0 {
		return 0, nil
	}
	if err := c.send(b.buf); err != nil {
		return 0, err
	}
	n := len(b.requests)
	for {
		data, err := c.receive(false)
		if err != nil || data == nil {
			return n, err
		}
		err = messages(data, func(m message) error {
			if m.typ != unix.NLMSG_ERROR {
				return nil
			}
			n--
			if err := errnoOf(m.data); !errors.Is(err, unix.ENOENT) {
				return err
			}
			return nil // it ended by itself
		})
		if err != nil {
			return n, err
		}
	}
}
