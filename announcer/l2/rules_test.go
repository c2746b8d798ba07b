package l2

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/ndp"
	"golang.org/x/sys/unix"
)

// writer is what a rule has of the kernel: registers, and a frame that it reads and
// writes. It matches everything.
type writer struct {
	frame     []byte
	registers [64]byte
	elsewhere bool // a write changes the checksum of another header too, as before Linux 7.2
}

func (w *writer) run(exprs []expr.Any) {
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Immediate:
			copy(w.register(e.Register), e.Data)
		case *expr.Payload:
			w.payload(e)
		}
	}
}

func (w *writer) register(n uint32) []byte { return w.registers[(n-unix.NFT_REG32_00)*4:] }

func (w *writer) payload(p *expr.Payload) {
	header := w.frame[map[expr.PayloadBase]int{
		expr.PayloadBaseNetworkHeader: etherLen, expr.PayloadBaseTransportHeader: etherLen + ipv6Len,
	}[p.Base]:]
	field := header[p.Offset:][:p.Len]
	if p.OperationType != expr.PayloadWrite {
		copy(w.register(p.DestRegister), field)
		return
	}
	to := w.register(p.SourceRegister)[:p.Len]
	if p.CsumType == expr.CsumTypeInet && (w.elsewhere || p.Base == expr.PayloadBaseTransportHeader) {
		amend(header[p.CsumOffset:], field, to)
	}
	copy(field, to)
}

// amend changes a checksum as RFC 1624 does, for a field that becomes another.
func amend(sum, from, to []byte) {
	n := uint32(^binary.BigEndian.Uint16(sum))
	for i := 0; i < len(from); i += 2 {
		n += uint32(^binary.BigEndian.Uint16(from[i:])) + uint32(binary.BigEndian.Uint16(to[i:]))
	}
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	binary.BigEndian.PutUint16(sum, ^uint16(n))
}

// Advertisements have the right checksum on kernels that change it for each write, and on
// those that change it only for writes to ICMPv6's own header.
func TestNDPAnswersHaveTheRightChecksum(t *testing.T) {
	asker, group := netip.MustParseAddr("fe80::abcd:1234:ffff"), netip.MustParseAddr("ff02::1:ff00:200")
	bare := &ndp.NeighborSolicitation{TargetAddress: vip6}
	full := &ndp.NeighborSolicitation{TargetAddress: vip6, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac9}}}
	for _, q := range []struct {
		rule      string
		src, dst  netip.Addr
		m         ndp.Message
		answersTo netip.Addr
	}{
		{"answer who would like to have the address", netip.IPv6Unspecified(), group, bare, netip.IPv6LinkLocalAllNodes()},
		{"answer with our MAC in the place of the asker's", asker, group, full, asker},
		{"answer hosts that know our MAC", asker, vip6, bare, asker},
	} {
		for kernel, elsewhere := range map[string]bool{"5.10": true, "7.2": false} {
			t.Run(q.rule+" on "+kernel, func(t *testing.T) {
				f, err := ndpFrame(mac9, q.src, q.dst, q.m)
				w := writer{frame: mustFrame(t, f, err), elsewhere: elsewhere}
				copy(w.register(regMAC), mac1)
				for _, r := range answerRules() {
					if r.text == q.rule {
						w.run(r.exprs)
						break // each is there twice
					}
				}
				to := netip.AddrFrom16([16]byte(w.frame[etherLen+24:]))
				if a, ok := parse(w.frame); !ok || a != (assertion{addr: vip6, mac: mac1.String()}) || to != q.answersTo {
					t.Errorf("%s is told %+v, %v: % x", to, a, ok, w.frame)
				}
			})
		}
	}
}
