package members

import (
	"bytes"
	"encoding/binary"
	"net"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// field is what a release after 0.1 appends to a report: mark, kind, its length, its bytes.
// Version 0.1 hands it on unread.
type field struct {
	kind byte
	put  func(announcer.Report) []byte // nil: nothing to say
	take func(*reader, *announcer.Report)
}

// mark begins each field. A signature may be at that place: one in 16 million begins alike,
// hardly any reads as a field, and the next one does not begin alike.
const mark = "\xd1re"

// fields are all that this release reads, in their order on the wire. A later release
// appends its own behind them.
var fields = []field{
	{1, putDrain, (*reader).drain},
	{2, putKnows, (*reader).knows},
	{3, putDirector, (*reader).director},
	{4, putUnforwarded, (*reader).unforwarded},
}

func appendFields(b []byte, r announcer.Report) []byte {
	for _, f := range fields {
		if text := f.put(r); text != nil {
			b = appendText(append(append(b, mark...), f.kind), string(text))
		}
	}
	return b
}

// fields reads what appendFields wrote. What is not written so is left: it is of a later
// release, or a signature.
func (d *reader) fields(r *announcer.Report) {
	for _, f := range fields {
		rest, ok := bytes.CutPrefix(d.b, append([]byte(mark), f.kind))
		if d.err != nil || !ok {
			continue
		}
		whole := reader{b: rest}
		text := whole.text(maxField)
		in, with := reader{b: []byte(text), err: whole.err}, *r
		f.take(&in, &with)
		if in.err == nil && len(in.b) == 0 && string(f.put(with)) == text && bytes.Equal(appendText(nil, text), rest[:len(rest)-len(whole.b)]) {
			*r, d.b = with, whole.b
		}
	}
}

// putDrain writes the version of the gossip, DrainsFor and Stays.
func putDrain(r announcer.Report) []byte {
	if r.Protocol == 0 {
		return nil
	}
	b := []byte{r.Protocol, byte(r.DrainsFor)}
	b = binary.AppendUvarint(b, uint64(len(r.Stays)))
	for _, a := range r.Stays {
		b = appendText(b, string(a.AsSlice()))
	}
	return b
}

func (d *reader) drain(r *announcer.Report) {
	r.Protocol, r.DrainsFor = d.byte(), snapshot.DrainCauses(d.byte())
	for range d.number(maxReport) {
		addr := d.addr()
		if d.err != nil {
			break
		}
		r.Stays = append(r.Stays, addr)
	}
}

// putKnows writes how far the node follows the API server.
func putKnows(r announcer.Report) []byte {
	if r.Knows.Count == 0 {
		return nil
	}
	return binary.AppendUvarint(binary.AppendUvarint(nil, r.Knows.Newest), r.Knows.Count)
}

func (d *reader) knows(r *announcer.Report) {
	r.Knows.Newest, r.Knows.Count = d.number(maxVersion), d.number(maxVersion)
}

// putDirector writes what others have to know of the node's director.
func putDirector(r announcer.Report) []byte {
	if r.Director == nil {
		return nil
	}
	b := []byte{0}
	if r.Director.Able {
		b[0] = 1
	}
	b = binary.AppendUvarint(b, uint64(len(r.Director.Links)))
	for _, l := range r.Director.Links {
		mac, err := net.ParseMAC(l.MAC)
		if err != nil {
			mac = nil
		}
		b = appendText(b, l.Name)
		b = appendText(b, string(mac))
		b = binary.AppendUvarint(b, uint64(len(l.Addrs)))
		for _, a := range l.Addrs {
			b = appendText(b, string(a.AsSlice()))
		}
	}
	return b
}

func (d *reader) director(r *announcer.Report) {
	r.Director = &snapshot.DirectorState{Able: d.byte() == 1}
	for range d.number(maxLinks) {
		l := snapshot.DirectorLink{Name: d.text(maxLinkName), MAC: d.mac()}
		for range d.number(maxPrefixes) {
			l.Addrs = append(l.Addrs, d.addr())
		}
		if d.err != nil {
			break
		}
		r.Director.Links = append(r.Director.Links, l)
	}
}

// putUnforwarded writes the families that the node does not forward, a byte each.
func putUnforwarded(r announcer.Report) (b []byte) {
	for _, f := range r.Unforwarded {
		b = append(b, byte(f))
	}
	return b
}

func (d *reader) unforwarded(r *announcer.Report) {
	for len(d.b) > 0 && len(r.Unforwarded) < 2 {
		r.Unforwarded = append(r.Unforwarded, snapshot.Family(d.byte()))
	}
}
