package netlink

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/proxy/nftables"
)

// Whatever arrives is read without a panic.
func FuzzRead(f *testing.F) {
	b := newBatch(1)
	_, patches := nftables.Adopt(nothing(), everything(), nftables.DefaultMark, false)
	b.step(patches[0], nftables.Main)
	f.Add(b.buf[len(b.buf)-4000:])
	f.Add(b.buf[:4000])
	f.Fuzz(func(t *testing.T, data []byte) {
		messages(data, func(m message) error {
			extack(m)
			errnoOf(m.data)
			parseFlow(m.data)
			for _, v := range attributes(m.data) {
				for _, dataType := range []uint32{0, unix.NFT_DATA_VERDICT} {
					e, end := parseElement(v, nftables.SetType{DataType: dataType})
					joinRanges([]nftables.Element{e, e}, []bool{end, false})
				}
				parseComment(v)
			}
			return nil
		})
	})
}

// Ranges survive the kernel's way of keeping them, in any order, up to the
// last address.
func TestJoinRanges(t *testing.T) {
	a := func(s string) string { return string(prefixes(s + "/32")[0].Addr().AsSlice()) }
	starts := []nftables.Element{{Key: a("10.0.0.0")}, {Key: a("10.1.0.0")}, {Key: a("240.0.0.0")}, {Key: a("10.0.1.0")}, {Key: a("10.2.0.0")}}
	ends := []bool{false, false, false, true, true}
	var got []string
	for _, e := range joinRanges(starts, ends) {
		got = append(got, e.Text(nftables.Set{Key: []nftables.Field{{Name: "ipv4_addr", Type: 7, Len: 4}}}))
	}
	if want := "10.0.0.0-10.0.0.255 10.1.0.0-10.1.255.255 240.0.0.0-255.255.255.255"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
