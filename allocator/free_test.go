package allocator

import (
	"fmt"
	"math/rand"
	"net/netip"
	"testing"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
)

func spanOf(text string) span {
	r := netipx.MustParseIPRange(text)
	return span{numOf(r.From()), numOf(r.To())}
}

// TestFreeSet does the same to a freeSet and to a plain array, and compares.
func TestFreeSet(t *testing.T) {
	for _, avoid := range []bool{false, true} {
		for seed := range int64(20) {
			t.Run(fmt.Sprint(avoid, seed), func(t *testing.T) {
				const size = 4096
				base := numOf(netip.MustParseAddr("10.0.0.0"))
				at := func(i int) num { return base.plus(num{0, uint64(i)}) }
				set := newFreeSet([]span{{base, at(size - 1)}}, avoid)
				var free [size]bool
				for i := range free {
					free[i] = !avoid || !buggy(at(i))
				}
				r := rand.New(rand.NewSource(seed))
				for step := range 20000 {
					i := r.Intn(size)
					if step%5000 > 3500 || r.Intn(8) == 0 {
						set.putBack(at(i))
						free[i] = !avoid || !buggy(at(i))
					} else if got := set.remove(at(i)); got != free[i] && !(avoid && buggy(at(i))) {
						t.Fatalf("step %d: take(%d) is %v, want %v", step, i, got, free[i])
					} else {
						free[i] = false
					}
					if step%97 == 0 {
						compareLowest(t, &set, free[:], base)
					}
				}
			})
		}
	}
}

func compareLowest(t *testing.T, set *freeSet, free []bool, base num) {
	t.Helper()
	got, ok := set.lowest()
	for i, f := range free {
		if f {
			if want := base.plus(num{0, uint64(i)}); !ok || got != want {
				t.Fatalf("lowest is %v %v, want %v", got, ok, want)
			}
			return
		}
	}
	if ok {
		t.Fatalf("lowest is %v, want none", got)
	}
}

// TestFreeSetSpreadsChunks takes every second address, the worst case, and
// gives all back.
func TestFreeSetSpreadsChunks(t *testing.T) {
	base := numOf(netip.MustParseAddr("2001:db8::"))
	set := newFreeSet([]span{spanOf("2001:db8::-2001:db8::ffff:ffff:ffff:ffff")}, false)
	const n = 20000
	for i := range n {
		if !set.remove(base.plus(num{0, uint64(2 * i)})) {
			t.Fatal("not free", i)
		}
	}
	for _, c := range set.chunks {
		if len(c) == 0 || len(c) > chunkMax {
			t.Fatal("chunk of", len(c))
		}
	}
	for i := range n {
		set.putBack(base.plus(num{0, uint64(2 * i)}))
	}
	if len(set.chunks) != 1 || len(set.chunks[0]) != 1 {
		t.Fatal("not whole again:", len(set.chunks))
	}
}

// Item 20 as a table of sizes, and the ends of the address spaces.
func TestSpanSize(t *testing.T) {
	for _, row := range []struct {
		text  string
		avoid bool
		want  int64
	}{
		{"192.0.2.0-192.0.2.255", false, 256},
		{"192.0.2.0-192.0.2.255", true, 254},
		{"192.0.2.0-192.0.2.127", true, 127},
		{"192.0.2.0-192.0.2.1", true, 1},
		{"192.0.2.255-192.0.3.0", true, 0},
		{"192.0.2.254-192.0.3.1", true, 2},
		{"0.0.0.0-255.255.255.255", false, 1 << 32},
		{"0.0.0.0-255.255.255.255", true, 1<<32 - 1<<25},
		{"2001:db8::-2001:db8::3fff:ffff:ffff:ffff", false, 1 << 62},
		{"2001:db8::-2001:db8::ffff:ffff:ffff:ffff", false, 1<<63 - 1},
		{"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false, 1<<63 - 1},
	} {
		if got := spanOf(row.text).size(row.avoid).int64(); got != row.want {
			t.Errorf("%s avoid=%v: %d, want %d", row.text, row.avoid, got, row.want)
		}
	}
}

// TestHugePools: a pool of any size costs nothing and counts without a sign.
func TestHugePools(t *testing.T) {
	for _, text := range []string{"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "0.0.0.0-255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
		p := newPool(&snapshot.Pool{Name: "p", AvoidBuggyIPs: true, Ranges: []netipx.IPRange{netipx.MustParseIPRange(text)}}, &taken{})
		for _, f := range families {
			b := p.block(f)
			if n, ok := b.free.lowest(); ok != (b.total != num{}) || ok && !b.free.remove(n) {
				t.Errorf("%s: nothing to take", text)
			}
			b.assigned = 3
			if c := b.count(false); c.Total < 0 || c.Free < 0 || c.Free > c.Total {
				t.Errorf("%s: %+v", text, c)
			}
		}
	}
}

func TestMerge(t *testing.T) {
	got := merge([]span{spanOf("10.0.1.0-10.0.1.255"), spanOf("10.0.0.0-10.0.0.255"), spanOf("10.0.0.5-10.0.0.6"), spanOf("10.0.3.0-10.0.3.0")})
	want := []span{spanOf("10.0.0.0-10.0.1.255"), spanOf("10.0.3.0-10.0.3.0")}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
