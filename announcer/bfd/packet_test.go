package bfd_test

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bfd"
)

func TestPacketOnTheWire(t *testing.T) {
	p := bfd.Packet{
		State: bfd.Up, Diag: bfd.NeighborDown, Poll: true, DetectMult: 3, My: 0x01020304, Your: 0x0a0b0c0d,
		DesiredMinTx: 50 * time.Millisecond, RequiredMinRx: 300 * time.Millisecond,
	}
	const want = "23e00318" + "01020304" + "0a0b0c0d" + "0000c350" + "000493e0" + "00000000"
	if got := hex.EncodeToString(p.Encode()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if back, err := bfd.Decode(p.Encode()); err != nil || back != p {
		t.Errorf("%+v: read back as %+v, %v", p, back, err)
	}
}

// RFC 5880 section 6.8.6: what is discarded before a session is looked for.
func TestDiscarded(t *testing.T) {
	good := bfd.Packet{State: bfd.Up, DetectMult: 3, My: 1, Your: 2}.Encode()
	for name, spoil := range map[string]func(b []byte) []byte{
		"empty":                         func([]byte) []byte { return nil },
		"short":                         func(b []byte) []byte { return b[:23] },
		"version 0":                     func(b []byte) []byte { b[0] = 0; return b },
		"length below the minimum":      func(b []byte) []byte { b[3] = 23; return b },
		"length beyond the datagram":    func(b []byte) []byte { b[3] = 25; return b },
		"multiplier 0":                  func(b []byte) []byte { b[2] = 0; return b },
		"multipoint":                    func(b []byte) []byte { b[1] |= 1; return b },
		"authenticated":                 func(b []byte) []byte { b[1] |= 4; return b },
		"poll and final":                func(b []byte) []byte { b[1] |= 0x30; return b },
		"no discriminator of its own":   func(b []byte) []byte { b[7] = 0; return b },
		"Up without our discriminator":  func(b []byte) []byte { b[11] = 0; return b },
		"authenticated, with a trailer": func(b []byte) []byte { b[1] |= 4; b[3] = 26; return append(b, 1, 2) },
	} {
		if p, err := bfd.Decode(spoil(bytes.Clone(good))); err == nil {
			t.Errorf("%s: read as %+v", name, p)
		}
	}
	if _, err := bfd.Decode(append(good, 9, 9)); err != nil {
		t.Errorf("a datagram longer than its packet: %v", err)
	}
}

// FuzzDecode: no input panics, and what is read is written the same, but for
// the echo interval, which we do not offer.
func FuzzDecode(f *testing.F) {
	f.Add(bfd.Packet{State: bfd.Init, DetectMult: 5, My: 7, Your: 9, RequiredMinRx: time.Second}.Encode())
	f.Add([]byte{0x20, 0x40, 3, 24})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := bfd.Decode(b)
		if err != nil {
			return
		}
		again, err := bfd.Decode(p.Encode())
		if err != nil || again != p {
			t.Fatalf("%x: %+v, again %+v, %v", b, p, again, err)
		}
		s := bfd.NewSession(p.Your|1, bfd.Config{MinTx: time.Second, MinRx: time.Second, Multiplier: 3}, time.Unix(0, 0))
		s.Receive(p, time.Unix(1, 0), 0)
		s.Tick(time.Unix(2, 0), 0.5)
	})
}
