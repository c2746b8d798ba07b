package snapshot_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
)

func TestParseAddr(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "192.000.002.001": "192.0.2.1", "010.08.00.1": "10.8.0.1", "2001:db8::1": "2001:db8::1",
		"::ffff:192.0.2.1": "192.0.2.1", "": "", "192.0.2": "", "192.0.2.1.": "", "192.0.2.256": "", "192.0.2.1\n": "", "0x7f.0.0.1": "",
		"fe80::1%eth0": "", "localhost": "", "-1.0.0.0": "", "1..2.3": "",
	} {
		a, ok := snapshot.ParseAddr(text)
		if got := a.String(); ok != (want != "") || ok && got != want {
			t.Errorf("%q: got %s %t, want %q", text, got, ok, want)
		}
	}
}

func TestParsePrefix(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.0/24": "192.0.2.0/24", "192.0.2.5/24": "192.0.2.5/24", "010.000.0.0/08": "10.0.0.0/8", "2001:db8::/32": "2001:db8::/32",
		"::ffff:192.0.2.0/120": "192.0.2.0/24", "::ffff:0.0.0.0/96": "0.0.0.0/0", "::ffff:192.0.2.0/95": "", "::/0": "::/0",
		"192.0.2.0/33": "", "192.0.2.0": "", "192.0.2.0/": "", "192.0.2.0/-1": "", "/24": "", "192.0.2.0/24/24": "", "fe80::1%eth0/64": "",
	} {
		p, ok := snapshot.ParsePrefix(text)
		if got := p.String(); ok != (want != "") || ok && got != want {
			t.Errorf("%q: got %s %t, want %q", text, got, ok, want)
		}
	}
}

// FuzzParseAddr: whatever Go reads as an address without a zone is read, as
// itself; what else is read is IPv4 that Go reads without its leading zeros.
func FuzzParseAddr(f *testing.F) {
	for _, seed := range []string{"192.0.2.1", "010.000.08.1", "::ffff:1.2.3.4", "fe80::1%eth0", "00.0.0.0", "1.2.3", "", "....", "2001:db8::1", "::ffff:01.2.3.4"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := snapshot.ParseAddr(text)
		strict, err := netip.ParseAddr(text)
		switch {
		case err == nil && strict.Zone() == "" && (!ok || got != strict.Unmap()):
			t.Fatalf("%q was read as %s %t", text, got, ok)
		case ok && (got.Zone() != "" || got.Is4In6()):
			t.Fatalf("%q was read as %s", text, got)
		case ok && err != nil && !strings.Contains(text, "0"):
			t.Fatalf("%q, which is not an address, was read as %s", text, got)
		}
		if p, pok := snapshot.ParsePrefix(text + "/32"); pok && !ok || pok && p.Addr() != got {
			t.Fatalf("%q: prefix %s, address %s %t", text, p, got, ok)
		}
	})
}
