package echo

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

// What the network lets through is believed at once, that it drops something after three
// rounds, and silence is not evidence.
func TestJudge(t *testing.T) {
	all, none := heard{true, true, true}, heard{}
	noClient, noVIP := heard{true, false, true}, heard{true, true, false}
	noOwn := heard{false, true, true}
	for name, c := range map[string]struct {
		rounds [][]heard
		known  bool
		why    string // a part of it
	}{
		"nothing yet":           {nil, false, ""},
		"all came":              {[][]heard{{all}}, true, ""},
		"nobody answers":        {[][]heard{nil, {none}, {noOwn}, nil}, false, ""},
		"nobody answers for 5":  {[][]heard{nil, {none}, {noOwn}, nil, nil}, true, ""},
		"clients' are dropped":  {[][]heard{{noClient}, nil, {noClient, none}, {noClient}}, true, "addresses of clients"},
		"VIPs' are dropped":     {[][]heard{{noVIP}, {noVIP}, {noVIP}}, true, "addresses of VIPs"},
		"in doubt":              {[][]heard{{noClient}, {noClient}}, false, ""},
		"one node gets all":     {[][]heard{{noClient, all}, {noClient, all}, {all, noClient}}, true, ""},
		"it is allowed now":     {[][]heard{{noVIP}, {noVIP}, {noVIP}, {all}}, true, ""},
		"silence after dropped": {[][]heard{{noVIP}, {noVIP}, {noVIP}, nil, nil}, true, "VIPs"},
	} {
		var v4, v6 judge
		v6.known = true
		for _, r := range c.rounds {
			v4.add("IPv4", r)
		}
		why, known := verdict(&v4, &v6)
		if known != c.known || !strings.Contains(why, c.why) || why != "" && c.why == "" || len(why) > 200 {
			t.Errorf("%s: known %t, %q", name, known, why)
		}
	}
}

// A frame is read as it was written, and its checksums are right.
func TestFrame(t *testing.T) {
	for _, f := range []frame{
		{source: netip.MustParseAddr("192.0.2.1"), ip: netip.MustParseAddr("198.18.0.2"), word: came, kind: vip, nonce: 1 << 60},
		{source: netip.MustParseAddr("2001:db8::1"), ip: netip.MustParseAddr("fd98::2"), word: hello, kind: client, nonce: 7},
	} {
		f.from, f.to = net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
		b := f.bytes()
		got, ok := parse(b)
		if !ok || got.word != f.word || got.kind != f.kind || got.nonce != f.nonce || got.from.String() != f.from.String() || got.to.String() != f.to.String() {
			t.Errorf("%+v became %+v", f, got)
		}
		if f.ip.Is4() && (sum(0, b[14:34]) != 0xffff || sum(0, b[34:]) != 0xffff) {
			t.Errorf("checksums of % x", b)
		}
		for n := range b {
			if _, ok := parse(b[:n]); ok {
				t.Errorf("%d bytes are read", n)
			}
		}
	}
}
