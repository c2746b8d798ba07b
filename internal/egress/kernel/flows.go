package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/egress"
)

// sources are the sources that connections of pods have on this node, by pod; the zero
// Addr: any. Packets of a pod that is held are dropped anyway, and its owner may return.
func sources(s egress.State) map[netip.Addr]netip.Addr {
	out := map[netip.Addr]netip.Addr{}
	for _, p := range s.Pods {
		switch p.Way {
		case egress.Own:
			out[p.Addr] = p.VIP
		case egress.Via:
			out[p.Addr] = p.Addr
		case egress.Held:
			out[p.Addr] = netip.Addr{}
		}
	}
	return out
}

// endStale ends the connections whose source is not the one that s gives them. Otherwise
// the kernel keeps what it decided for the first packet: a datagram's flow would have the
// address of before as long as the pod sends. The kernel looks through its connections for
// that, so it is asked only when some pod's source has changed.
func (k *Kernel) endStale(s egress.State) error {
	now := sources(s)
	if k.sources != nil && maps.Equal(k.sources, now) {
		return nil
	}
	var errs []error
	for _, f := range families {
		errs = append(errs, k.endFamily(f, now))
	}
	err := errors.Join(errs...)
	if err == nil {
		k.sources = now
	}
	return err
}

// Messages and attributes of ctnetlink.
const (
	ctGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1
	ctDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2

	ctaTupleOrig, ctaTupleReply, ctaTupleIP = 1, 2, 1
	ctaMark, ctaID, ctaZone, ctaMarkMask    = 8, 12, 18, 21
)

// endFamily ends the connections of one family that are stale. The kernel lists those that
// have the bit alone: of all connections there may be a million.
func (k *Kernel) endFamily(f family, sources map[netip.Addr]netip.Addr) error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: k.netns})
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer func() { _ = c.Close() }()
	ask := netlink.NewAttributeEncoder()
	ask.ByteOrder = binary.BigEndian
	ask.Uint32(ctaMark, k.bit)
	ask.Uint32(ctaMarkMask, k.bit)
	listed, err := c.Execute(f.message(ctGet, netlink.Dump, ask))
	if err != nil {
		return fmt.Errorf("list connections: %w", err)
	}
	for _, m := range listed {
		pod, source, name := f.flow(m.Data)
		if want, known := sources[pod]; known && (!want.IsValid() || want == source) {
			continue
		}
		if _, err := c.Execute(f.message(ctDelete, netlink.Acknowledge, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("end a connection: %w", err)
		}
	}
	return nil
}

// message is a message of ctnetlink about the family.
func (f family) message(typ netlink.HeaderType, flags netlink.HeaderFlags, attrs *netlink.AttributeEncoder) netlink.Message {
	data, _ := attrs.Encode() // the encoders are made here, without a value that could fail
	return netlink.Message{
		Header: netlink.Header{Type: typ, Flags: netlink.Request | flags},
		Data:   append([]byte{byte(f.nft), 0, 0, 0}, data...),
	}
}

// flow reads who opened a connection and which source it got, and the attributes that name
// it in its deletion. The id makes sure that it is that one and not its successor.
func (f family) flow(listed []byte) (pod, source netip.Addr, name *netlink.AttributeEncoder) {
	name = netlink.NewAttributeEncoder()
	d, err := netlink.NewAttributeDecoder(listed[min(4, len(listed)):])
	for err == nil && d.Next() {
		switch d.Type() {
		case ctaTupleOrig:
			name.Bytes(ctaTupleOrig|unix.NLA_F_NESTED, d.Bytes())
			pod = f.end(d.Bytes(), 0)
		case ctaTupleReply:
			source = f.end(d.Bytes(), 1)
		case ctaID, ctaZone:
			name.Bytes(d.Type(), d.Bytes())
		}
	}
	return pod, source, name
}

// end reads the source of a tuple, or with 1 its destination.
func (f family) end(tuple []byte, which uint16) (out netip.Addr) {
	source := uint16(1) // CTA_IP_V4_SRC
	if f.nft == nftables.TableFamilyIPv6 {
		source = 3 // CTA_IP_V6_SRC
	}
	d, err := netlink.NewAttributeDecoder(tuple)
	for err == nil && d.Next() {
		if d.Type() == ctaTupleIP {
			d.Nested(func(ip *netlink.AttributeDecoder) error {
				for ip.Next() {
					if ip.Type() == source+which {
						out, _ = netip.AddrFromSlice(ip.Bytes())
					}
				}
				return nil
			})
		}
	}
	return out
}
