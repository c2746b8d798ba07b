package netlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
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

	filterProto = 1 << 3
)

// sweepBuffer is enough for a list, which the kernel continues as it is read, and for
// the deletions of one datagram with what the kernel replies.
const (
	sweepBuffer = 4 << 20
	endAtOnce   = 2000 // connections
)

// tracked is a connection as it was listed, with what its deletion needs.
type tracked struct {
	nftables.Flow
	attrs []byte
}

// list implements connections. Kernels before 5.8 list more than was asked for, which
// match has to refuse, and so do kernels that cannot select by status.
func (c *conn) list(ctx context.Context, l listing, all bool, match func(nftables.Flow) bool) (out []tracked, err error) {
	family := nfproto(nftables.FamilyOf(l.Family))
	if l.both {
		family = unix.AF_UNSPEC
	}
	ask := func(b *batch) {
		if !l.both {
			b.ofProtocol(l.Protocol)
		}
		if l.Protocol == snapshot.TCP && !all {
			b.unanswered()
		}
	}
	err = c.get(ctx, ctGet, family, true, ask, func(m message) error {
		if f, ok := parseFlow(m.data); ok && f.Protocol == l.Protocol && match(f) {
			out = append(out, tracked{f, identity(m.data)})
		}
		return ctx.Err()
	})
	if err != nil {
		return out, fmt.Errorf("list connections: %w", err)
	}
	return out, nil
}

// ofProtocol asks for the connections of one protocol.
func (b *batch) ofProtocol(p snapshot.Protocol) {
	tuple := b.nest(ctaTupleOrig)
	proto := b.nest(ctaTupleProto)
	b.attr(ctaProtoNum, []byte{uint8(p)})
	b.close(proto)
	b.close(tuple)
	filter := b.nest(ctaFilter)
	b.attr(1, host(filterProto)) // CTA_FILTER_ORIG_FLAGS
	b.attr(2, host(0))           // CTA_FILTER_REPLY_FLAGS
	b.close(filter)
}

// unanswered asks for the connections that nobody has answered.
func (b *batch) unanswered() {
	b.attr(ctaStatus, binary.BigEndian.AppendUint32(nil, 0))
	b.attr(ctaStatusMask, binary.BigEndian.AppendUint32(nil, seenReply))
}

// ctaSrc and ctaDst are CTA_IP_V4_SRC or CTA_IP_V6_SRC, and so on.
func ctaSrc(f *nftables.Family) uint16 {
	if f == nftables.IP6 {
		return 3
	}
	return 1
}

func ctaDst(f *nftables.Family) uint16 { return ctaSrc(f) + 1 }

// parseFlow reads a connection. It returns false if its protocol is none of those
// that a Service has.
func parseFlow(data []byte) (nftables.Flow, bool) {
	orig, reply := attribute(data, ctaTupleOrig), attribute(data, ctaTupleReply)
	client, known := tupleEnd(orig, ctaSrc, ctaProtoSrcPort)
	to, ok := tupleEnd(orig, ctaDst, ctaProtoDstPort)
	// The source of the reply is the endpoint that the kernel chose.
	from, also := tupleEnd(reply, ctaSrc, ctaProtoSrcPort)
	f := nftables.Flow{Client: client.Addr(), ClientPort: client.Port(), To: to, From: from}
	if num := attribute(attribute(orig, ctaTupleProto), ctaProtoNum); len(num) == 1 {
		f.Protocol = snapshot.Protocol(num[0])
	}
	if status := attribute(data, ctaStatus); len(status) == 4 {
		f.Answered = binary.BigEndian.Uint32(status)&seenReply != 0
	}
	return f, known && ok && also && slices.Contains(nftables.Protocols, f.Protocol)
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

// identity returns the attributes that name a connection in its deletion. The id makes
// sure that it is that one and not its successor.
func identity(listed []byte) []byte {
	b := &batch{}
	for typ, v := range attributes(listed) {
		switch typ {
		case ctaTupleOrig:
			b.attr(typ|unix.NLA_F_NESTED, v)
		case ctaID, ctaZone:
			b.attr(typ, v)
		}
	}
	return b.buf
}

// end implements connections.
func (c *conn) end(listed []tracked) (total int, err error) {
	for some := range slices.Chunk(listed, endAtOnce) {
		n, err := c.endSome(some)
		if total += n; err != nil {
			return total, fmt.Errorf("end connections: %w", err)
		}
	}
	return total, nil
}

// endSome ends connections with one datagram.
func (c *conn) endSome(listed []tracked) (int, error) {
	b := &batch{seq: c.seq, requests: map[uint32]*request{}}
	for _, t := range listed {
		end := b.message(ctDelete, 0, nfproto(nftables.FamilyOf(snapshot.FamilyOf(t.To.Addr()))), "end a connection")
		b.buf = append(b.buf, t.attrs...)
		end()
	}
	c.seq = b.seq
	if err := c.send(b.buf); err != nil {
		return 0, err
	}
	n := len(listed)
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
