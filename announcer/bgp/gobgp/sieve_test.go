package gobgp

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// anOpen is the body of an OPEN of AS 64501 with these capabilities.
func anOpen(caps ...byte) []byte {
	out := []byte{4, 0xfb, 0xf5, 0, 90, 198, 18, 7, 2}
	if len(caps) == 0 {
		return append(out, 0)
	}
	return append(append(out, byte(len(caps)+2), 2, byte(len(caps))), caps...)
}

// sift returns the types of the messages that a sieve lets through, and why it ends.
func sift(t *testing.T, in []byte) (out []packet.BGPMessage, offered offer, err error) {
	t.Helper()
	s := &sieve{from: bytes.NewReader(in), notified: func([2]uint8) {}, opening: func(o offer) error { offered = o; return nil }}
	for {
		msg, err := s.next()
		if err != nil {
			return out, offered, err
		}
		if len(msg) == 0 {
			continue
		}
		m, err := packet.ParseBGPMessage(msg)
		if err != nil {
			t.Fatalf("gobgp cannot read what the sieve lets through: %v\n%x", err, msg)
		}
		out = append(out, *m)
	}
}

func TestSieve(t *testing.T) {
	open := frame(typeOpen, anOpen(65, 4, 0, 0, 0xfb, 0xf5))
	up := slices.Concat(open, frame(typeKeepalive, nil))
	update := frame(typeUpdate, []byte{0, 0, 0, 0})
	for _, c := range []struct {
		name  string
		in    []byte
		types []uint8
		fault *notification // nil: the router closes the connection
	}{
		{"a session", slices.Concat(up, frame(typeKeepalive, nil), frame(typeNotification, []byte{6, 2})), []uint8{1, 4, 4, 3}, nil},
		{"UPDATEs", slices.Concat(up, update, update, update), []uint8{1, 4}, nil},
		{"refresh of IPv6, of a VPN, and with a mark", slices.Concat(up, frame(5, []byte{0, 2, 0, 1}), frame(5, []byte{0, 1, 0, 128}), frame(5, []byte{0, 1, 1, 1})), []uint8{1, 4, 5}, nil},
		{"unknown type", slices.Concat(up, frame(77, nil)), []uint8{1, 4}, &notification{code: 1, subcode: 3}},
		{"second OPEN", slices.Concat(up, open), []uint8{1, 4}, &notification{code: 5, subcode: 3}},
		{"UPDATE before OPEN", update, nil, &notification{code: 5, subcode: 1}},
		{"UPDATE before KEEPALIVE", slices.Concat(open, update), []uint8{1}, &notification{code: 5, subcode: 2}},
		{"no marker", make([]byte, 19), nil, &notification{code: 1, subcode: 1}},
		{"too long", append(slices.Repeat([]byte{0xff}, 16), 0xff, 0xff, 2), nil, &notification{code: 1, subcode: 2}},
		{"KEEPALIVE with a body", slices.Concat(open, frame(4, []byte{1})), []uint8{1}, &notification{code: 1, subcode: 2}},
		{"NOTIFICATION without a body", slices.Concat(up, frame(3, nil)), []uint8{1, 4}, &notification{code: 1, subcode: 2}},
		{"OPEN with a capability beyond it", frame(1, anOpen(1, 200, 0, 1)), nil, errOpen},
		{"OPEN with an unknown parameter", frame(1, append(anOpen()[:9], 2, 99, 0)), nil, &notification{code: 2, subcode: 4}},
		{"half a message", slices.Concat(up, update[:20]), []uint8{1, 4}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, _, err := sift(t, c.in)
			var types []uint8
			for _, m := range out {
				types = append(types, m.Header.Type)
			}
			if !slices.Equal(types, c.types) {
				t.Errorf("lets through %v, and not %v", types, c.types)
			}
			var fault *notification
			if errors.As(err, &fault) != (c.fault != nil) || fault != nil && (fault.code != c.fault.code || fault.subcode != c.fault.subcode) {
				t.Errorf("ends with %v", err)
			}
		})
	}
}

// TestOffer: of an OPEN, gobgp gets what a session depends on, and nothing else.
func TestOffer(t *testing.T) {
	caps := slices.Concat(
		[]byte{1, 4, 0, 1, 0, 1}, []byte{1, 4, 0, 2, 0, 1}, []byte{1, 4, 0, 25, 0, 70}, []byte{2, 0}, []byte{70, 0},
		[]byte{64, 6, 0x80, 120, 0, 1, 1, 0x80}, []byte{65, 4, 0xfa, 0x56, 0xea, 1}, []byte{5, 6, 0, 1, 0, 1, 0, 2}, []byte{69, 4, 0, 1, 1, 3}, []byte{73, 3, 1, 'r', 0},
	)
	out, o, _ := sift(t, frame(typeOpen, anOpen(caps...)))
	if len(out) != 1 || o.asn() != 4200000001 || !o.foreignHop {
		t.Fatalf("%d messages, %+v", len(out), o)
	}
	want := slices.Concat([]byte{1, 4, 0, 1, 0, 1}, []byte{1, 4, 0, 2, 0, 1}, []byte{2, 0}, []byte{64, 2, 0x80, 120}, []byte{65, 4, 0xfa, 0x56, 0xea, 1})
	if got := o.body(); !bytes.Equal(got, anOpen(want...)) {
		t.Errorf("gobgp gets %x", got)
	}
	_, o, _ = sift(t, frame(typeOpen, anOpen(1, 4, 0, 1, 0, 128)))
	if got := o.body(); !bytes.Equal(got, anOpen(1, 4, 0, 1, 0, 128)) {
		t.Errorf("of a router without our families, gobgp gets %x", got)
	}
}

// FuzzSieve: gobgp can read all that a sieve lets through, and no UPDATE is among it.
func FuzzSieve(f *testing.F) {
	f.Add(slices.Concat(frame(typeOpen, anOpen(65, 4, 0, 0, 0xfb, 0xf5, 64, 2, 0, 1)), frame(typeKeepalive, nil), frame(typeUpdate, make([]byte, 8))), uint8(4))
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		// Most of what a fuzzer makes has no marker: frame it too.
		var framed []byte
		for part := range slices.Chunk(in, int(cut)+1) {
			framed = append(framed, frame(part[0]%7, part[1:])...)
		}
		for _, b := range [][]byte{in, framed, slices.Concat(frame(typeOpen, anOpen(in[:min(len(in), 200)]...)), frame(typeKeepalive, nil), framed)} {
			out, _, _ := sift(t, b)
			for i, m := range out {
				if m.Header.Type == typeUpdate || (m.Header.Type == typeOpen) != (i == 0) && m.Header.Type != typeNotification {
					t.Fatalf("message %d is of type %d", i, m.Header.Type)
				}
			}
		}
	})
}

// TestPause: a session that ends early again and again is tried at longer and longer
// intervals. After the first time it is tried at once.
func TestPause(t *testing.T) {
	want := []time.Duration{0, 0, 5 * time.Second, 10 * time.Second, 20 * time.Second, 30 * time.Second}
	for failures, d := range want {
		if got := pause(failures); got != d {
			t.Errorf("after %d failures: %s, and not %s", failures, got, d)
		}
	}
	if got := pause(1000); got != longestPause {
		t.Errorf("after 1000 failures: %s", got)
	}
}
