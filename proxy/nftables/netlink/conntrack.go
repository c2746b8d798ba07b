package netlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// Attributes and flags of ctnetlink that x/sys/unix lacks.
const (
	ctGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1
	ctDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2

	ctaTupleOrig, ctaTupleReply, ctaStatus, ctaID, ctaZone, ctaFilter, ctaStatusMask = 1, 2, 3, 12, 18, 25, 26

	seenReply                                     = 1 << 1 // IPS_SEEN_REPLY
	ctaTupleIP, ctaTupleProto                     = 1, 2
	ctaProtoNum, ctaProtoSrcPort, ctaProtoDstPort = 1, 2, 3

	filterDst, filterProto, filterDstPort = 1 << 1, 1 << 3, 1 << 5
)

// manyKeys is when it is better to have the kernel list all UDP flows once
// than those of each Frontend.
const manyKeys = 32

// endFlows deletes the flows to the Frontends in changed that are stale
// in t, and returns how many.
func (c *conn) endFlows(ctx context.Context, t *proxy.Table, changed map[proxy.Key]bool) (int, error) {
	keys := slices.SortedFunc(maps.Keys(changed), proxy.Key.Compare)
	if len(keys) > manyKeys {
		keys = []proxy.Key{{Family: snapshot.IPv4, Protocol: snapshot.UDP}, {Family: snapshot.IPv6, Protocol: snapshot.UDP}}
	}
	return c.endThose(ctx, keys, func(f nftables.Flow) bool { return f.Stale(t, changed) })
}

// endUnanswered deletes the connections to the Frontends in changed that no
// endpoint has answered, and that t does not have any more.
func (c *conn) endUnanswered(ctx context.Context, t *proxy.Table, changed map[proxy.Key]bool) (int, error) {
	var keys []proxy.Key
	for _, f := range nftables.Families {
		if slices.ContainsFunc(slices.Collect(maps.Keys(changed)), func(k proxy.Key) bool { return k.Family == f.ID }) {
			keys = append(keys, proxy.Key{Family: f.ID, Protocol: snapshot.TCP})
		}
	}
	return c.endThose(ctx, keys, func(f nftables.Flow) bool { return !f.Answered && f.Stale(t, nil) })
}

// endThose deletes the flows to keys that match says, and returns how many.
func (c *conn) endThose(ctx context.Context, keys []proxy.Key, match func(nftables.Flow) bool) (total int, err error) {
	for _, k := range keys {
		b := &batch{seq: c.seq, requests: map[uint32]*request{}}
		if err := c.staleFlows(ctx, k, b, match); err != nil {
			return total, fmt.Errorf("list flows: %w", explain(err))
		}
		n, err := c.deleteFlows(b)
		if total += n; err != nil {
			return total, fmt.Errorf("end flows: %w", explain(err))
		}
	}
	return total, nil
}

// staleFlows adds to b the deletion of each flow to key that match says. A key
// without port or address is any. Kernels before 5.8 list more than was asked
// for.
func (c *conn) staleFlows(ctx context.Context, key proxy.Key, b *batch, match func(nftables.Flow) bool) error {
	f := nftables.FamilyOf(key.Family)
	err := errInterrupted // on a busy node the list changes while it is read
	for tries := 0; tries < 5 && errors.Is(err, errInterrupted); tries++ {
		err = c.get(ctx, ctGet, nfproto(f), true, func(b *batch) { b.flowFilter(f, key) }, func(m message) error {
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

// flowFilter asks for the flows to key only, of TCP only for those that are not
// answered. It does not name an IPv6 address: Linux 6.18 lists the flows to all
// other addresses then.
func (b *batch) flowFilter(f *nftables.Family, key proxy.Key) {
	flags := uint32(filterProto)
	tuple := b.nest(ctaTupleOrig)
	if key.Addr.Is4() {
		flags |= filterDst
		ip := b.nest(ctaTupleIP)
		b.bytes(ctaDst(f), string(key.Addr.AsSlice()))
		b.close(ip)
	}
	proto := b.nest(ctaTupleProto)
	b.attr(ctaProtoNum, []byte{uint8(key.Protocol)})
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
	if key.Protocol == snapshot.TCP {
		b.attr(ctaStatus, binary.BigEndian.AppendUint32(nil, 0))
		b.attr(ctaStatusMask, binary.BigEndian.AppendUint32(nil, seenReply))
	}
}

// ctaSrc and ctaDst are CTA_IP_V4_SRC or CTA_IP_V6_SRC, and so on.
func ctaSrc(f *nftables.Family) uint16 {
	if f == nftables.IP6 {
		return 3
	}
	return 1
}

func ctaDst(f *nftables.Family) uint16 { return ctaSrc(f) + 1 }

// parseFlow reads a flow; false if it is neither of UDP nor of TCP.
func parseFlow(data []byte) (nftables.Flow, bool) {
	orig, reply := attribute(data, ctaTupleOrig), attribute(data, ctaTupleReply)
	to, ok := tupleEnd(orig, ctaDst, ctaProtoDstPort)
	from, also := tupleEnd(reply, ctaSrc, ctaProtoSrcPort)
	f := nftables.Flow{To: to, From: from}
	if num := attribute(attribute(orig, ctaTupleProto), ctaProtoNum); len(num) == 1 {
		f.Protocol = snapshot.Protocol(num[0])
	}
	if status := attribute(data, ctaStatus); len(status) == 4 {
		f.Answered = binary.BigEndian.Uint32(status)&seenReply != 0
	}
	return f, ok && also && (f.Protocol == snapshot.UDP || f.Protocol == snapshot.TCP)
}

func tupleEnd(tuple []byte, addr func(*nftables.Family) uint16, port uint16) (netip.AddrPort, bool) {
	ip, p := attribute(tuple, ctaTupleIP), attribute(attribute(tuple, ctaTupleProto), port)
	if len(p) != 2 {
		return netip.AddrPort{}, false
	}
	for _, f := range nftables.Families {
		if a, ok := netip.AddrFromSlice(attribute(ip, addr(f))); ok {
			return netip.AddrPortFrom(a, binary.BigEndian.Uint16(p)), true
		}
	}
	return netip.AddrPort{}, false
}

// deleteFlow adds the deletion of a flow as it was listed; the id makes sure
// that it is that one and not its successor.
func (b *batch) deleteFlow(f *nftables.Family, listed []byte) {
	end := b.message(ctDelete, 0, nfproto(f), "end a flow")
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
