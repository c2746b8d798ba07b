package dhcp_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/dhcp"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// TestStories tells every file in testdata to a Lease. A line of a section "when" is a
// moment, and what happens then:
//
//	TIME tick                                the clock alone
//	TIME offer|ack|nak ADDRESS SERVER [LIFETIME [T1]]
//	TIME taken MAC                           a foreign host has the address
//	TIME release
//
// What is due until then is done at its time. "refuse ADDRESS WHY" in the section "rules"
// has an address refused; "start ADDRESS SERVER LEFT" is the lease that another node left.
func TestStories(t *testing.T) {
	storytest.Each(t, tell)
}

// teller is a Lease, and what it said and sent.
type teller struct {
	*dhcp.Lease
	began, now time.Time
	refused    map[netip.Addr]string
	last       string
	out        strings.Builder
}

func tell(t *testing.T, s *storytest.Story) {
	began := time.Unix(1_000_000, 0)
	w := &teller{began: began, now: began, refused: map[netip.Addr]string{}}
	start := snapshot.PoolLease{}
	for _, sec := range s.Sections {
		switch sec.Kind() {
		case "rules":
			for line := range strings.Lines(sec.Text) {
				words := strings.Fields(line)
				switch words[0] {
				case "refuse":
					w.refused[netip.MustParseAddr(words[1])] = strings.Join(words[2:], " ")
				case "start":
					start.Addr, start.Server = netip.MustParseAddr(words[1]), netip.MustParseAddr(words[2])
					start.Until = began.Add(length(t, words[3]))
				}
			}
		case "when":
			if w.Lease == nil {
				w.Lease = dhcp.NewLease("eth0", start, began)
			}
			for line := range strings.Lines(sec.Text) {
				w.do(t, strings.Fields(line))
			}
		case "want":
			sec.Want(t, w.out.String())
			w.out.Reset()
		default:
			t.Fatalf("no section %q", sec.Name)
		}
	}
}

func length(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (w *teller) do(t *testing.T, words []string) {
	t.Helper()
	at := w.began.Add(length(t, words[0]))
	for !w.Due().After(at) {
		w.now = w.Due()
		w.send(w.Tick(w.now))
		w.state()
	}
	w.now = at
	switch words[1] {
	case "tick":
		w.send(w.Tick(at))
	case "taken":
		w.send(w.Taken(at, words[2]))
	case "release":
		w.send(w.Release())
	default:
		m := dhcp.Message{Kind: dhcp.Kind(words[1]), Addr: netip.MustParseAddr(words[2]), Server: netip.MustParseAddr(words[3])}
		for i, text := range words[4:] {
			*[]*time.Duration{&m.Lifetime, &m.T1}[i] = length(t, text)
		}
		w.send(w.Receive(at, m, func(m dhcp.Message) string { return w.refused[m.Addr] }))
	}
	w.state()
}

// state says how the Lease stands, if that is new.
func (w *teller) state() {
	if now := w.Lease.String(); now != w.last {
		w.last = now
		w.say("%s", now)
	}
}

func (w *teller) send(messages []dhcp.Message) {
	for _, m := range messages {
		text := string(m.Kind)
		if m.Addr.IsValid() {
			text += " " + m.Addr.String()
		}
		if m.Server.IsValid() {
			text += " to " + m.Server.String()
		}
		w.say("> %s", text)
	}
}

func (w *teller) say(format string, args ...any) {
	fmt.Fprintf(&w.out, "%s "+format+"\n", append([]any{w.now.Sub(w.began)}, args...)...)
}
