package sample

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	attrs "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/traffic"
)

// Attributes of ctnetlink that x/sys/unix lacks.
const (
	ctaTupleOrig, ctaTupleReply, ctaCountersOrig, ctaCountersReply = 1, 2, 9, 10

	ctaTupleIP, ctaTupleProto                     = 1, 2
	ctaV4Src, ctaV4Dst, ctaV6Src, ctaV6Dst        = 1, 2, 3, 4
	ctaProtoNum, ctaProtoSrcPort, ctaProtoDstPort = 1, 2, 3
	ctaCountersBytes                              = 2
)

// Flows calls take with each connection of the kernel's table, of both families. It keeps
// none: a busy node tracks hundreds of thousands. The table changes while it is read; then
// some are missing.
func Flows(take func(traffic.Flow)) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
		req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
		err := req.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(msg []byte) bool {
			if f, ok := flow(msg); ok {
				take(f)
			}
			return true
		})
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("read the connection table: %w", err)
		}
	}
	return nil
}

// flow reads one connection, as its client sees it.
func flow(msg []byte) (f traffic.Flow, ok bool) {
	if len(msg) < nl.SizeofNfgenmsg {
		return f, false
	}
	var t, back tuple
	err := each(msg[nl.SizeofNfgenmsg:], func(a *attrs.AttributeDecoder) error {
		switch a.Type() {
		case ctaTupleOrig:
			return t.read(a.Bytes())
		case ctaTupleReply:
			return back.read(a.Bytes())
		case ctaCountersOrig, ctaCountersReply:
			return each(a.Bytes(), func(a *attrs.AttributeDecoder) error {
				if a.Type() == ctaCountersBytes {
					f.Bytes += a.Uint64()
				}
				return nil
			})
		}
		return nil
	})
	f.Protocol, f.From, f.To = t.protocol, netip.AddrPortFrom(t.from, t.ports[0]), netip.AddrPortFrom(t.to, t.ports[1])
	f.Kept = back.to == t.from
	return f, err == nil && t.from.IsValid() && t.to.IsValid()
}

// tuple is one direction of a connection.
type tuple struct {
	protocol uint8
	from, to netip.Addr
	ports    [2]uint16 // of from and to
}

func (t *tuple) read(b []byte) error {
	return each(b, func(a *attrs.AttributeDecoder) error {
		switch a.Type() {
		case ctaTupleIP:
			return each(a.Bytes(), func(a *attrs.AttributeDecoder) error {
				switch a.Type() {
				case ctaV4Src, ctaV6Src:
					t.from, _ = netip.AddrFromSlice(a.Bytes())
				case ctaV4Dst, ctaV6Dst:
					t.to, _ = netip.AddrFromSlice(a.Bytes())
				}
				return nil
			})
		case ctaTupleProto:
			return each(a.Bytes(), func(a *attrs.AttributeDecoder) error {
				switch a.Type() {
				case ctaProtoNum:
					t.protocol = a.Uint8()
				case ctaProtoSrcPort:
					t.ports[0] = a.Uint16()
				case ctaProtoDstPort:
					t.ports[1] = a.Uint16()
				}
				return nil
			})
		}
		return nil
	})
}

// each calls read at every attribute in b.
func each(b []byte, read func(*attrs.AttributeDecoder) error) error {
	a, err := attrs.NewAttributeDecoder(b)
	if err != nil {
		return err
	}
	a.ByteOrder = binary.BigEndian
	for a.Next() {
		if err := read(a); err != nil {
			return err
		}
	}
	return a.Err()
}
