package nftables

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Whatever arrives is read without a panic.
func FuzzRead(f *testing.F) {
	b := newBatch(1, 7)
	l := layout{ip4, DefaultMark}
	fronts, _ := frontendsDiff(nil, everything().Frontends)
	o := l.objects(l.needs(fronts))
	b.addObjects(ip4, o)
	(&plan{family: ip4, specs: specs(o)}).writeElements(b, unix.NFT_MSG_NEWSETELEM, l.render(everything(), fronts))
	f.Add(b.buf[len(b.buf)-4000:])
	f.Add(b.buf[:4000])
	f.Fuzz(func(t *testing.T, data []byte) {
		messages(data, func(m message) error {
			extack(m)
			errnoOf(m.data)
			parseFlow(m.data)
			for _, v := range attributes(m.data) {
				for _, dataType := range []uint32{0, unix.NFT_DATA_VERDICT} {
					e, end := parseElement(v, heldSet{dataType: dataType})
					joinRanges([]element{e, e}, []bool{end, false})
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
	a := func(s string) string { return bytesOf(prefixes(s + "/32")[0].Addr()) }
	starts := []element{{key: a("10.0.0.0")}, {key: a("10.1.0.0")}, {key: a("240.0.0.0")}, {key: a("10.0.1.0")}, {key: a("10.2.0.0")}}
	ends := []bool{false, false, false, true, true}
	var got []string
	for _, e := range joinRanges(starts, ends) {
		got = append(got, e.text(setSpec{key: []field{ip4.addr}}))
	}
	if want := "10.0.0.0-10.0.0.255 10.1.0.0-10.1.255.255 240.0.0.0-255.255.255.255"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
