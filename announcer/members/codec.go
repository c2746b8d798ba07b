package members

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// What a report may hold at most. A node has some links with some addresses.
const (
	maxReport   = 16 << 10 // bytes
	maxName     = 253      // of a node, as Kubernetes has it
	maxBoot     = 64
	maxLinks    = 256
	maxLinkName = 64
	maxPrefixes = 256
	maxReports  = 16_384 // in one exchange
	maxExchange = 8 << 20
	maxVersion  = 1 << 62
	maxField    = 8 << 10
)

// format is the first byte of every report. A later release may append fields, which
// this one does not read but hands on; if it changes what is there it takes a new number.
// What is appended ends in the signature of the node, see signed.
const format = 1

var errShort = errors.New("ends early")

// encode writes a report: numbers as uvarints, texts with their length before.
func encode(r announcer.Report) []byte {
	var flags byte
	for i, f := range bits(&r) {
		if *f {
			flags |= 1 << i
		}
	}
	b := []byte{format, flags}
	b = binary.AppendUvarint(b, r.Version)
	b = appendText(b, r.Node)
	b = appendText(b, r.Boot)
	b = binary.AppendUvarint(b, uint64(len(r.Links)))
	for _, l := range r.Links {
		mac, err := net.ParseMAC(l.MAC)
		if err != nil {
			mac = nil // a link without one
		}
		b = appendText(b, l.Name)
		b = appendText(b, string(mac))
		b = binary.AppendUvarint(b, uint64(len(l.Prefixes)))
		for _, p := range l.Prefixes {
			b = append(b, byte(p.Bits()))
			b = appendText(b, string(p.Addr().AsSlice()))
		}
	}
	b = appendFields(b, r)
	return append(b, r.Later...)
}

// bits are a report's flags in their order on the wire.
func bits(r *announcer.Report) []*bool {
	return []*bool{&r.InSync, &r.Draining, &r.Restarting, &r.Settled, &r.LongSettled, &r.Isolated}
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decode reads a report. It refuses whatever encode would not write.
func decode(b []byte) (announcer.Report, error) {
	var r announcer.Report
	if len(b) > maxReport {
		return r, fmt.Errorf("%d bytes are too many", len(b))
	}
	d := reader{b: b}
	if f := d.byte(); d.err == nil && f != format {
		return r, fmt.Errorf("format %d is unknown", f)
	}
	flags := d.byte()
	for i, f := range bits(&r) {
		*f = flags&(1<<i) != 0
	}
	r.Version, r.Node, r.Boot = d.number(maxVersion), d.text(maxName), d.text(maxBoot)
	for range d.number(maxLinks) {
		l := snapshot.Link{Name: d.text(maxLinkName), MAC: d.mac()}
		for range d.number(maxPrefixes) {
			l.Prefixes = append(l.Prefixes, d.prefix())
		}
		if d.err != nil {
			break
		}
		r.Links = append(r.Links, l)
	}
	if d.err == nil && r.Node == "" {
		d.err = errors.New("names no node")
	}
	if d.err == nil {
		d.fields(&r)
		r.Later = string(d.b)
	}
	return r, d.err
}

// encodeAll writes what is remembered of several nodes.
func encodeAll(all []announcer.Remembered) []byte {
	b := []byte{format}
	b = binary.AppendUvarint(b, uint64(len(all)))
	for _, m := range all {
		b = binary.AppendUvarint(b, uint64(m.Silent.Milliseconds()))
		b = appendText(b, m.Addr.String())
		b = append(b, 0)
		if m.NodeGone {
			b[len(b)-1] = 1
		}
		b = appendText(b, string(encode(m.Report)))
	}
	return b
}

// decodeAll reads what encodeAll wrote. A single report that cannot be read is
// left out and its error returned beside the others.
func decodeAll(b []byte) ([]announcer.Remembered, error) {
	if len(b) > maxExchange {
		return nil, fmt.Errorf("%d bytes are too many", len(b))
	}
	d := reader{b: b}
	if f := d.byte(); d.err == nil && f != format {
		return nil, fmt.Errorf("format %d is unknown", f)
	}
	var out []announcer.Remembered
	var errs []error
	for range d.number(maxReports) {
		silent, addr, lost, text := d.number(1<<40), d.text(64), d.byte(), d.text(maxReport)
		if d.err != nil {
			break
		}
		r, err := decode([]byte(text))
		if err != nil {
			// Where whole exchanges were refused, elections differed for good.
			errs = append(errs, err)
			continue
		}
		at, err := netip.ParseAddrPort(addr)
		if err != nil {
			at = netip.AddrPort{} // this node's own has none
		}
		out = append(out, announcer.Remembered{Report: r, Addr: at, Silent: time.Duration(silent) * time.Millisecond, NodeGone: lost != 0})
	}
	return out, errors.Join(append(errs, d.err)...)
}

// reader reads from b until the first error, and zeros after it.
type reader struct {
	b   []byte
	err error
}

func (d *reader) byte() byte {
	if d.err != nil || len(d.b) == 0 {
		d.fail(errShort)
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *reader) number(limit uint64) uint64 {
	if d.err != nil {
		return 0
	}
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.fail(errShort)
		return 0
	}
	if n > limit {
		d.fail(fmt.Errorf("%d is more than %d", n, limit))
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *reader) text(limit uint64) string {
	n := d.number(limit)
	if uint64(len(d.b)) < n {
		d.fail(errShort)
	}
	if d.err != nil {
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

// mac is a MAC address as text, "" for none.
func (d *reader) mac() string {
	text := net.HardwareAddr(d.text(20)).String()
	if _, err := net.ParseMAC(text); text != "" && err != nil {
		d.fail(err)
	}
	return text
}

func (d *reader) prefix() netip.Prefix {
	length, addr := d.byte(), d.addr()
	p := netip.PrefixFrom(addr, int(length))
	if d.err == nil && !p.IsValid() {
		d.fail(errors.New("holds no prefix"))
	}
	return p
}

func (d *reader) addr() netip.Addr {
	addr, ok := netip.AddrFromSlice([]byte(d.text(16)))
	if d.err == nil && (!ok || addr.Is4In6()) {
		d.fail(errors.New("holds no address"))
	}
	return addr
}

func (d *reader) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}
