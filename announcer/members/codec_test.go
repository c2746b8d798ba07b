package members

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

var full = announcer.Report{
	Electable: snapshot.Electable{Node: "worker-1", InSync: true, Links: []snapshot.Link{
		{Name: "eth0", MAC: "02:00:00:00:00:0a", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.5/24"), netip.MustParsePrefix("2001:db8::5/64")}},
		{Name: "tun0"},
	}},
	Boot: "5a3c", Version: 300, Settled: true, Isolated: true,
}

// directs is full with what it says of the director.
var directs = func() announcer.Report {
	r := full
	r.Director = &snapshot.DirectorState{Able: true, Links: []snapshot.DirectorLink{
		{Name: "eth0", MAC: "02:00:00:00:00:0a", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.5"), netip.MustParseAddr("2001:db8::5")}},
	}}
	return r
}()

// stays is a report of an agent that says what those of version 0.1 do not know.
var stays = announcer.Report{Electable: snapshot.Electable{
	Node: "n", Protocol: announcer.Protocol, DrainsFor: snapshot.DrainCordon,
	Stays: []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")},
}, Settled: true}

func TestCodec(t *testing.T) {
	everything := stays
	everything.Director, everything.Knows, everything.Unforwarded = directs.Director, announcer.Knowledge{Newest: 1_800_000_000, Count: 3}, []snapshot.Family{snapshot.IPv6}
	for _, r := range []announcer.Report{
		full, directs, stays, everything,
		{Electable: snapshot.Electable{Node: "n"}},
		{Electable: snapshot.Electable{Node: "n", Draining: true}, Restarting: true, LongSettled: true},
		{Electable: snapshot.Electable{Node: "n", Director: &snapshot.DirectorState{}}},
		{Electable: snapshot.Electable{Node: "n", Unforwarded: []snapshot.Family{snapshot.IPv4, snapshot.IPv6}}},
	} {
		got, err := decode(encode(r))
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("got %+v, %v, want %+v", got, err, r)
		}
		// An agent hands on what it cannot read.
		with := append(encode(r), "a field of a later release"...)
		later, err := decode(with)
		if err != nil || !bytes.Equal(encode(later), with) {
			t.Errorf("with a later field: %+v, %v", later, err)
		}
		if later.Later = ""; !reflect.DeepEqual(later, r) {
			t.Errorf("with a later field: %+v", later)
		}
	}
	all := []announcer.Remembered{{Report: full, Addr: netip.MustParseAddrPort("[2001:db8::5]:7947"), Silent: 1500 * time.Millisecond, NodeGone: true}, {Report: announcer.Report{Electable: snapshot.Electable{Node: "n"}}}}
	if got, err := decodeAll(encodeAll(all)); err != nil || !reflect.DeepEqual(got, all) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// What is on the wire never changes: agents of every version since 0.1.0 read it
// while they are upgraded one by one.
func TestWire(t *testing.T) {
	const one = "0129ac0208776f726b65722d3104356133630204657468300602000000000a021804c0000205401020010db80000000000000000000000050474756e300000"
	if got := fmt.Sprintf("%x", encode(full)); got != one {
		t.Errorf("a report is\n%s\nwant\n%s", got, one)
	}
	const director = "d1726503" + "25" + "01" + "01" + "0465746830" + "0602000000000a" + "02" + "04c0000205" + "1020010db8000000000000000000000005"
	if got := fmt.Sprintf("%x", encode(directs)); got != one+director {
		t.Errorf("a report of the director is\n%s\nwant\n%s", got, one+director)
	}
	all := fmt.Sprintf("%x", encodeAll([]announcer.Remembered{
		{Report: full, Addr: netip.MustParseAddrPort("[2001:db8::5]:7947"), Silent: 1500 * time.Millisecond, NodeGone: true},
		{Report: announcer.Report{Electable: snapshot.Electable{Node: "n", Draining: true}, Restarting: true, LongSettled: true}},
	}))
	const second = "010800016e0000" + "d1726501" + "19" + "0210" + "02" + "04c000020a" + "1020010db8000000000000000000000010"
	if got := fmt.Sprintf("%x", encode(stays)); got != second {
		t.Errorf("a report of the second version is\n%s\nwant\n%s", got, second)
	}
	const want = "0102dc0b125b323030313a6462383a3a355d3a37393437013f" + one + "0010696e76616c69642041646472506f72740007011600016e0000"
	if all != want {
		t.Errorf("an exchange is\n%s\nwant\n%s", all, want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	whole := encode(announcer.Report{Electable: snapshot.Electable{Node: "n", Links: full.Links[:1]}})
	for name, b := range map[string][]byte{
		"nothing":            nil,
		"another format":     {2, 0, 0, 1, 'n', 0, 0},
		"no node":            encode(announcer.Report{}),
		"cut":                whole[:len(whole)-1],
		"a long name":        encode(announcer.Report{Electable: snapshot.Electable{Node: strings.Repeat("n", maxName+1)}}),
		"too many links":     encode(announcer.Report{Electable: snapshot.Electable{Node: "n", Links: make([]snapshot.Link, maxLinks+1)}}),
		"a far version":      encode(announcer.Report{Electable: snapshot.Electable{Node: "n"}, Version: 1 << 63}),
		"a prefix too long":  {1, 0, 1, 1, 'n', 0, 1, 1, 'e', 0, 1, 33, 4, 192, 0, 2, 1},
		"an odd address":     {1, 0, 1, 1, 'n', 0, 1, 1, 'e', 0, 1, 24, 3, 192, 0, 2},
		"endless bytes":      make([]byte, maxReport+1),
		"an endless uvarint": bytes.Repeat([]byte{1, 0xff}, 20),
	} {
		if r, err := decode(b); err == nil {
			t.Errorf("%s was read as %+v", name, r)
		}
	}
}

// What begins like a field and is not one is handed on as it came: it may be of a later
// release, or a signature.
func TestFieldsOfOthers(t *testing.T) {
	for name, rest := range map[string]string{
		"cut":                mark + "\x03\x05\x01",
		"more behind":        mark + "\x03\x03\x01\x00\x00",
		"another flag":       mark + "\x03\x02\x02\x00",
		"a long number":      mark + "\x03\x82\x00\x01\x00",
		"an odd address":     mark + "\x03\x08\x01\x01\x01e\x00\x01\x01\x01",
		"nothing else":       mark,
		"no kind":            mark + "\x01",
		"no version":         mark + "\x01\x03\x00\x00\x00",
		"stays with what":    mark + "\x01\x07\x02\x00\x01\x03abc",
		"knows nothing":      mark + "\x02\x02\x01\x00",
		"a later release's":  mark + "\x09\x02\x01\x00",
		"in the wrong order": mark + "\x09\x00" + mark + "\x02\x02\x01\x01",
	} {
		b := append(encode(full), rest...)
		r, err := decode(b)
		if err != nil || r.Director != nil || r.Protocol != 0 || r.Knows.Count != 0 || r.Later != rest || !bytes.Equal(encode(r), b) {
			t.Errorf("%s: %v, %q, %v", name, r.Director, r.Later, err)
		}
	}
}

// FuzzDecode: whatever comes, no panic; what was read is written and read alike.
func FuzzDecode(f *testing.F) {
	f.Add(encode(full))
	f.Add(encode(directs))
	f.Add(encode(announcer.Report{Electable: snapshot.Electable{Node: "n"}}))
	f.Add(encode(stays))
	f.Add(encode(announcer.Report{Electable: snapshot.Electable{Node: "n"}, Knows: announcer.Knowledge{Newest: 9, Count: 2}}))
	f.Add([]byte{format, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err != nil {
			return
		}
		again, err := decode(encode(r))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}

func FuzzDecodeAll(f *testing.F) {
	f.Add(encodeAll([]announcer.Remembered{{Report: full, Silent: time.Second}, {Report: announcer.Report{Electable: snapshot.Electable{Node: "n"}}}}))
	f.Add([]byte{format, 2, 0, 0, 1, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		all, _ := decodeAll(b)
		again, err := decodeAll(encodeAll(all))
		if err != nil || !reflect.DeepEqual(again, all) {
			t.Errorf("%+v became %+v, %v", all, again, err)
		}
	})
}
