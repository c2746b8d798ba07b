package nftables

import (
	"crypto/sha256"
	"fmt"
	"testing"
)

// digest is a hash over one of each kind of object.
func digest() string {
	l := newLayout(IP4, DefaultMark)
	l.slots = [6]int{2, 2, 2, 2}
	for _, v := range variants {
		l.balances[balance{v, 2, 0, false}] = true
		l.balances[balance{v, 1, 1, false}] = true
	}
	l.fill()
	h := sha256.New()
	for _, set := range l.Sets {
		fmt.Fprintln(h, set)
	}
	for _, c := range l.Chains {
		fmt.Fprintln(h, c)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

// A layout that changes needs another version.
func TestLayoutVersion(t *testing.T) {
	digests := map[int]string{7: "64c0450810551f3b"}
	if got := digest(); got != digests[layoutVersion] {
		t.Errorf("the layout is not that of version %d: raise layoutVersion, and note the new one's digest here, %q", layoutVersion, got)
	}
}

func TestParseMark(t *testing.T) {
	for text, want := range map[string]uint32{
		"0x2000": 0x2000, "8192": 0x2000, "0x80000000": 1 << 31, "0": 0, "0x3": 0, "0x4000": 0, "16384": 0, "": 0, "0x100000000": 0,
	} {
		got, err := ParseMark(text)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %#x, %v", text, got, err)
		}
	}
}
