package l2

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"github.com/fairlead/fairlead/announcer/watch"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

var wordKeys = [][]byte{[]byte("0123456789abcdef0123456789abcdef")}

// lanLink is a link of the network of newWatchers.
var lanLink = snapshot.Link{Name: "eth0", Prefixes: []netip.Prefix{
	netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("198.18.0.9/24"), netip.MustParsePrefix("fd98:18::9/64"),
}}

// signer returns the same key for the same node.
func signer(node string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(node))
	return ed25519.NewKeyFromSeed(seed[:])
}

func signersOf(nodes ...string) map[string]ed25519.PublicKey {
	out := map[string]ed25519.PublicKey{}
	for _, node := range nodes {
		out[node] = signer(node).Public().(ed25519.PublicKey)
	}
	return out
}

func TestSeals(t *testing.T) {
	other := []byte("another key, which was in use once")
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	word := watch.Word{Target: watch.Target{Node: "x", Link: "eth0"}, Say: watch.Lost}
	plain, err := wordFrame(lanLink, mac, word)
	if err != nil {
		t.Fatal(err)
	}
	frame := func() []byte { return append([]byte{}, plain...) }
	if parsed, err := parseWord(plain); err != nil || parsed.size != len(plain) {
		t.Fatalf("a word of %d bytes is parsed as %+v, error %v", len(plain), parsed, err)
	}
	here := seals{keys: wordKeys, signers: signersOf("a")}
	for _, tt := range []struct {
		name    string
		frame   []byte
		opener  seals
		speaker string
		want    bool
	}{
		{"sealed and signed", seals{keys: wordKeys, own: signer("a")}.close(frame(), 7), here, "a", true},
		{"padded by the link", append(seals{keys: wordKeys, own: signer("a")}.close(frame(), 7), make([]byte, 30)...), here, "a", true},
		{"signed by another node", seals{keys: wordKeys, own: signer("b")}.close(frame(), 7), here, "a", false},
		{"not signed, by one who signs", seals{keys: wordKeys}.close(frame(), 7), here, "a", false},
		{"not signed, by one who does not", seals{keys: wordKeys}.close(frame(), 7), here, "b", true},
		{"no seal", frame(), here, "b", false},
		{"a seal of zeros", append(frame(), make([]byte, serialLen+sealLen)...), here, "b", false},
		{"another key", seals{keys: [][]byte{other}}.close(frame(), 7), here, "b", false},
		{"the key that was in use before", seals{keys: [][]byte{other}}.close(frame(), 7), seals{keys: [][]byte{wordKeys[0], other}}, "b", true},
		{"nobody has a key yet", seals{keys: wordKeys}.close(frame(), 7), seals{}, "b", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			serial, err := tt.opener.open(tt.frame, len(plain), tt.speaker)
			if (err == nil) != tt.want || tt.want && serial != 7 {
				t.Errorf("opened as number %d, error %v; want it believed: %t", serial, err, tt.want)
			}
		})
	}
	t.Run("each byte is sealed", func(t *testing.T) {
		sealed := seals{keys: wordKeys, own: signer("a")}.close(frame(), 7)
		for i := range sealed {
			forged := append([]byte{}, sealed...)
			forged[i] ^= 1
			if _, err := here.open(forged, len(plain), "a"); err == nil {
				t.Errorf("byte %d of %d can be changed", i, len(sealed))
			}
		}
	})
	if (seals{}).close(frame(), 7) != nil {
		t.Error("a word without a key is said")
	}
}

// Words are numbered from the start of their node's Watcher, also the first one that it says
// long afterwards: its clock may have been set back by then (TestClockJumps).
func TestSerialsRise(t *testing.T) {
	began := time.Now()
	s := NewWatcher(nil, slog.New(slog.DiscardHandler)).newThread(began).serials
	if !s.start.Equal(began) {
		t.Errorf("numbered from %v, want %v", s.start, began)
	}
	last := numberAt(began) - 1
	for range 1000 {
		n := s.next()
		if n <= last {
			t.Fatalf("%d after %d", n, last)
		}
		last = n
	}
}

// TestWordCountsOnItsLinkAlone: nodes have the same MAC on two links, as with VLANs of one
// port. A host on both repeats on one link what a node said on the other.
func TestWordCountsOnItsLinkAlone(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	there := snapshot.Link{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("198.18.0.1/24")}}
	for _, tt := range []struct {
		name string
		here snapshot.Link
		want bool
	}{
		{"the same link", lanLink, true},
		{"another network", snapshot.Link{Name: "eth1", Prefixes: []netip.Prefix{netip.MustParsePrefix("fe80::2/64"), netip.MustParsePrefix("198.19.0.2/24")}}, false},
		{"no address in common", snapshot.Link{Name: "eth1", Prefixes: []netip.Prefix{netip.MustParsePrefix("fd98:18::2/64")}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			frame, err := wordFrame(there, mac, watch.Word{Target: watch.Target{Node: "x", Link: "eth0"}, Say: watch.Lost})
			if err != nil {
				t.Fatal(err)
			}
			w := NewWatcher(nil, slog.New(slog.DiscardHandler))
			w.SetKeys(wordKeys)
			w.SetSigners(signersOf("b"))
			here := &thread{Watcher: w, nodes: map[string]string{mac.String(): "b"}, heard: map[speaker]uint64{}}
			here.hearWord(tt.here, seals{keys: wordKeys, own: signer("b")}.close(frame, 7), time.Now())
			if heard := here.heard[speaker{"b", tt.here.Name}] == 7; heard != tt.want {
				t.Errorf("heard: %t, want %t", heard, tt.want)
			}
		})
	}
}

// TestParseWord: what is cut short, or counts more addresses than it has, is not a word.
func TestParseWord(t *testing.T) {
	whole, err := wordFrame(lanLink, net.HardwareAddr{2, 0, 0, 0, 0, 1}, watch.Word{Target: watch.Target{Node: "x", Link: "eth0"}, Say: watch.Lost})
	if err != nil {
		t.Fatal(err)
	}
	if w, err := parseWord(whole); err != nil || fmt.Sprint(w.node, w.from) != "x[198.18.0.9 fd98:18::9]" {
		t.Errorf("%+v, %v", w, err)
	}
	for size := range whole {
		if w, err := parseWord(whole[:size]); err == nil {
			t.Errorf("%d of %d bytes are the word %+v", size, len(whole), w)
		}
	}
	many := slices.Clone(whole)
	many[etherLen+wordName+len("x")] = wordAddrs + 1
	if w, err := parseWord(append(many, make([]byte, 16*wordAddrs)...)); err == nil {
		t.Errorf("a word with %d addresses: %+v", wordAddrs+1, w)
	}
}

// outsider opens a socket for frames on the link of a host.
func outsider(t *testing.T, host nstest.Space) (conn *packet.Conn) {
	l, err := host.Netlink(t).LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	host.Do(t, func() (err error) {
		conn, err = packet.Listen(&net.Interface{Index: l.Attrs().Index, Name: "eth0", HardwareAddr: l.Attrs().HardwareAddr}, packet.Raw, etherWord, nil)
		return err
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestAttackByForgedWords: a host on the link says, with the MACs of both heirs, that a node
// that answers is lost. Then it says again what it recorded.
func TestAttackByForgedWords(t *testing.T) {
	t.Parallel()
	n := newWatchers(t, "198.18.0.%d/24")
	n.watched(t)
	stranger := nstest.New(t, "stranger")
	n.sw.Run(t, "ip", "link", "add", "to-stranger", "type", "veth", "peer", "name", "eth0", "netns", stranger.Name)
	n.sw.Run(t, "ip", "link", "set", "to-stranger", "master", "br0", "up")
	stranger.Run(t, "ip", "link", "set", "eth0", "up")
	conn := outsider(t, stranger)
	word := watch.Word{Target: watch.Target{Node: "x", Link: "eth0"}, Say: watch.Lost}
	said := 0
	for range 50 {
		for _, from := range []string{"a", "b"} {
			mac, err := net.ParseMAC(n.mac[from])
			if err != nil {
				t.Fatal(err)
			}
			frame, err := wordFrame(lanLink, mac, word)
			if err != nil {
				t.Fatal(err)
			}
			recorded := seals{keys: wordKeys, own: signer(from)}.close(append([]byte{}, frame...), numberAt(time.Now().Add(-time.Hour)))
			for _, frame := range [][]byte{frame, recorded} {
				if _, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: wordGroup}); err != nil {
					t.Fatal(err)
				}
				said++
			}
		}
		n.turns(t, "a", 1)
		for _, name := range watchedNodes {
			if lost := n.of[name].Seen().Lost; len(lost) > 0 {
				t.Fatalf("after %d forged words %s calls %v lost, which answers", said, name, lost)
			}
		}
	}
	if !n.answering("a") || !n.answering("b") {
		t.Error("a and b do not hear x, whom nobody cut off")
	}
}
