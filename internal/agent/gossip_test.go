package agent

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/keyring"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

func TestPlaces(t *testing.T) {
	ip := netip.MustParseAddr
	s := &snapshot.Snapshot{Nodes: []*snapshot.Node{
		{Name: "a", InternalIPs: []netip.Addr{ip("192.0.2.1"), ip("2001:db8::1")}},
		{Name: "b", InternalIPs: []netip.Addr{ip("2001:db8::2"), ip("192.0.2.2")}},
		{Name: "c", InternalIPs: []netip.Addr{ip("2001:db8::3")}},
		{Name: "d"},
	}}
	own, others := gossipAddrs(s, "a", 1)
	if own.String() != "192.0.2.1:1" || len(others) != 1 || others["b"].String() != "192.0.2.2:1" {
		t.Errorf("%s, %s", own, others)
	}
	if own, _ := gossipAddrs(s, "d", 1); own.IsValid() {
		t.Errorf("a node without an address: %s", own)
	}
}

// TestKeysAreKept: for the next agent, for root alone.
func TestKeysAreKept(t *testing.T) {
	dir := t.TempDir()
	if keys, err := load(dir, keysFile, keyring.Parse); keys != nil || err != nil {
		t.Error(keys, err)
	}
	keys := keyring.Keys{bytes.Repeat([]byte{7}, keyring.Size)}
	if err := save(dir, keysFile, keys.Format()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, keysFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	if got, err := load(dir, keysFile, keyring.Parse); err != nil || !bytes.Equal(got.Format(), keys.Format()) {
		t.Error(got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, keysFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(dir, keysFile, keyring.Parse); err == nil {
		t.Error("broken keys are taken")
	}
}

// TestGossip: two agents meet as soon as each knows enough, stay in touch while
// the key changes, and the one whose node gets another address starts over there.
func TestGossip(t *testing.T) {
	ip := netip.MustParseAddr
	nodes := func(a string) *snapshot.Snapshot {
		return &snapshot.Snapshot{Nodes: []*snapshot.Node{
			{Name: "a", InternalIPs: []netip.Addr{ip(a)}}, {Name: "b", InternalIPs: []netip.Addr{ip("127.9.0.2")}},
		}}
	}
	old, next := bytes.Repeat([]byte{1}, keyring.Size), bytes.Repeat([]byte{2}, keyring.Size)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	both := map[string]*gossip{}
	for _, name := range []string{"a", "b"} {
		g := newGossip(Config{Node: name, MembersPort: 27947, Log: slog.New(slog.DiscardHandler)}, func() {})
		both[name] = g
		wg.Go(func() { g.Run(ctx) })
		if _, ok := g.View(); ok {
			t.Error("a view before anything is known")
		}
		g.SetKeys(keyring.Keys{old})
		g.Follow(nodes("127.9.0.1"))
		said := snapshot.Electable{InSync: true}
		if name == "b" {
			said.Draining, said.DrainsFor, said.Stays = true, snapshot.DrainShutdown, []netip.Addr{ip("192.0.2.10")}
		}
		g.Say(announcer.Report{Electable: said})
	}
	meet := func(what, at string) {
		t.Helper()
		nstest.Eventually(t, what, func() bool {
			v, ok := both["b"].View()
			a := v.Member("a")
			if !ok || a == nil || a.Addr.Addr() != ip(at) || a.Verdict != announcer.Alive || !a.Candidate {
				return false
			}
			v, ok = both["a"].View()
			b := v.Member("b")
			return ok && b != nil && b.Candidate && b.Report.Draining && b.Report.Drains(snapshot.DrainByDefault) && len(b.Report.Stays) == 1 && b.Report.Protocol == announcer.Protocol
		})
	}
	meet("both meet", "127.9.0.1")
	for _, keys := range []keyring.Keys{{old, next}, {next, old}, {next}} {
		for _, g := range both {
			g.SetKeys(keys)
		}
	}
	meet("both speak with the next key", "127.9.0.1")
	for _, g := range both {
		g.Follow(nodes("127.9.0.3"))
	}
	meet("both meet at the new address", "127.9.0.3")
}
