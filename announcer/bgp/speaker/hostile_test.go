package speaker_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/internal/test/routertest"
)

// hostile listens where a router should, does what a real one does until the
// session is up, and then calls act with the connection, for every session.
func hostile(t *testing.T, ns nstest.Space, at string, act func(net.Conn)) {
	t.Helper()
	lurk(t, ns, at, func(conn net.Conn) {
		_, _ = conn.Write(open)
		_, _ = conn.Write(message(4, nil)) // KEEPALIVE
		act(conn)
	})
}

// lurk listens where a router should, and calls act with every connection.
func lurk(t *testing.T, ns nstest.Space, at string, act func(net.Conn)) {
	t.Helper()
	var l net.Listener
	ns.Do(t, func() (err error) {
		l, err = net.Listen("tcp", at)
		return err
	})
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				act(conn)
			}()
		}
	}()
}

// message is a BGP message (RFC 4271 section 4.1).
func message(kind byte, body []byte) []byte {
	out := make([]byte, 19, 19+len(body))
	for i := range 16 {
		out[i] = 0xff
	}
	binary.BigEndian.PutUint16(out[16:], uint16(19+len(body)))
	out[18] = kind
	return append(out, body...)
}

// capabilities are those of multiprotocol IPv4 and 4-byte AS numbers.
var capabilities = []byte{2, 12, 1, 4, 0, 1, 0, 1, 65, 4, 0, 0, 0xfb, 0xf5}

// open is an OPEN of AS 64501.
var open = opening(4, 90, capabilities...)

func opening(version, hold byte, parameters ...byte) []byte {
	return message(1, append([]byte{version, 0xfb, 0xf5, 0, hold, 198, 18, 7, 2, byte(len(parameters))}, parameters...))
}

// update is an UPDATE with these attributes and 198.19.9.0/24.
func update(attrs ...byte) []byte {
	body := append([]byte{0, 0, byte(len(attrs) >> 8), byte(len(attrs))}, attrs...)
	return message(2, append(body, 24, 198, 19, 9))
}

var (
	origin  = []byte{0x40, 1, 1, 0}
	asPath  = []byte{0x40, 2, 6, 2, 1, 0, 0, 0xfb, 0xf5}
	nextHop = []byte{0x40, 3, 4, 198, 18, 7, 2}
)

func attrs(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// attack is what a broken or evil router does.
type attack struct {
	open   []byte // in the place of an OPEN; nil: one
	then   []byte
	hangUp bool // drops the connection afterwards
}

func (a attack) on(conn net.Conn) {
	first := a.open
	if first == nil {
		first = open
	}
	_, _ = conn.Write(attrs(first, message(4, nil), a.then)) // with a KEEPALIVE
	if !a.hangUp {
		_, _ = io.Copy(io.Discard, conn)
	}
}

// attacks are the corpus, on a session that is up and on one that is not yet.
func attacks() map[string]attack {
	out := map[string]attack{"dropped in a message": {then: message(2, make([]byte, 100))[:40], hangUp: true}}
	for name, b := range corpus() {
		out[name] = attack{then: b}
	}
	for name, b := range map[string][]byte{
		"OPEN of version 3":                  opening(3, 90, capabilities...),
		"OPEN with a hold time of 1":         opening(4, 1, capabilities...),
		"OPEN of another AS":                 message(1, []byte{4, 0, 1, 0, 90, 198, 18, 7, 2, 0}),
		"OPEN with router ID 0":              message(1, []byte{4, 0xfb, 0xf5, 0, 90, 0, 0, 0, 0, 0}),
		"OPEN cut short":                     message(1, []byte{4, 0xfb, 0xf5, 0}),
		"OPEN with parameters beyond it":     message(1, []byte{4, 0xfb, 0xf5, 0, 90, 198, 18, 7, 2, 200, 2, 6, 1}),
		"OPEN with a parameter beyond it":    opening(4, 90, 2, 200, 1, 4),
		"OPEN with a capability beyond it":   opening(4, 90, 2, 4, 1, 200, 0, 1),
		"OPEN with an empty capability":      opening(4, 90, 2, 0),
		"OPEN with an AS number of one byte": opening(4, 90, 2, 3, 65, 1, 1),
		"OPEN with a short multiprotocol":    opening(4, 90, 2, 3, 1, 1, 0),
		"OPEN with a short graceful restart": opening(4, 90, 2, 3, 64, 1, 0x80),
		"OPEN with an odd add-path":          opening(4, 90, 2, 5, 69, 3, 0, 1, 1),
		"OPEN with a short next hop":         opening(4, 90, 2, 5, 5, 3, 0, 1, 0),
		"OPEN with a short FQDN":             opening(4, 90, 2, 4, 73, 2, 200, 1),
		"OPEN with an unknown parameter":     opening(4, 90, 99, 1, 0),
		"UPDATE before OPEN":                 update(attrs(origin, asPath, nextHop)...),
		"NOTIFICATION before OPEN":           message(3, []byte{6, 2}),
		"no OPEN":                            {},
	} {
		out[name] = attack{open: b}
	}
	return out
}

// corpus is what they send once the session is up.
func corpus() map[string][]byte {
	out := map[string][]byte{
		"attribute length overflow":               update(attrs(origin, asPath, []byte{0x40, 3, 200, 1, 2})...),
		"attributes beyond the body":              message(2, []byte{0, 0, 0xff, 0xff, 0x40}),
		"withdrawn beyond the body":               message(2, []byte{0xff, 0xff, 0, 0}),
		"CVE-2026-41643, AS4_PATH before AS_PATH": update(attrs(origin, []byte{0xc0, 17, 6, 2, 1, 0, 0, 0xfb, 0xf5}, nextHop)...),
		"AS4_PATH alone":                          update(0xc0, 17, 6, 2, 1, 0, 0, 0xfb, 0xf5),
		"CVE-2026-41642, unknown well-known":      update(attrs(origin, asPath, nextHop, []byte{0x40, 99, 1, 0})...),
		"empty confederation segment":             update(attrs(origin, []byte{0x40, 2, 2, 3, 0}, nextHop)...),
		"AS_PATH segment too long":                update(attrs(origin, []byte{0x40, 2, 3, 2, 255, 0}, nextHop)...),
		"MP_REACH truncated":                      update(attrs(origin, asPath, []byte{0x80, 14, 5, 0, 2, 1, 16, 0xfd})...),
		"MP_REACH empty":                          update(attrs(origin, asPath, []byte{0x80, 14, 0})...),
		"MP_UNREACH truncated":                    update(0x80, 15, 2, 0, 2),
		"prefix longer than 32":                   message(2, append([]byte{0, 0, 0, 20}, attrs(origin, asPath, nextHop, []byte{200, 1, 1, 1, 1})...)),
		"no attributes":                           update(),
		"ORIGIN not transitive":                   update(attrs([]byte{0, 1, 1, 0}, asPath, nextHop)...),
		"empty AS_PATH":                           update(attrs(origin, []byte{0x40, 2, 0}, nextHop)...),
		"odd lengths of attributes":               update(attrs([]byte{0x40, 1, 2, 0, 0}, []byte{0x40, 2, 5, 2, 1, 0, 0, 0xfb}, []byte{0x40, 3, 3, 1, 2, 3})...),
		"OPEN again":                              open,
		"OPEN without a body":                     message(1, nil),
		"NOTIFICATION without a body":             message(3, nil),
		"KEEPALIVE with a body":                   message(4, []byte{1, 2, 3}),
		"ROUTE-REFRESH short":                     message(5, []byte{0}),
		"unknown type":                            message(77, []byte{1}),
		"length below the minimum":                append(message(4, nil)[:16], 0, 1, 4),
		"length above the maximum":                append(message(4, nil)[:16], 0xff, 0xff, 2),
		"no marker":                               make([]byte, 19),
		"half a message":                          message(2, make([]byte, 100))[:40],
		"nothing":                                 nil,
	}
	// The shapes that ended a gobgp that reads UPDATEs: CVE-2026-41642 and -41643 are above.
	out["CVE-2026-42285, lengths that disagree"] = message(2, append([]byte{0, 0, 0, 30}, attrs(origin, asPath, nextHop)...))
	out["CVE-2026-37461, half an extended community"] = update(attrs(origin, asPath, nextHop, []byte{0xc0, 25, 5, 0, 2, 0xfd, 0x98, 0})...)
	out["CVE-2026-37462, lengths below zero"] = message(2, []byte{0, 4, 0, 0})
	out["CVE-2026-7734, half a prefix SID"] = update(attrs(origin, asPath, nextHop, []byte{0xc0, 40, 4, 5, 0xff, 0xff, 0})...)
	for n := range 4 {
		out[fmt.Sprintf("NEXT_HOP of %d bytes", n)] = update(attrs(origin, asPath, append([]byte{0x40, 3, byte(n)}, make([]byte, n)...))...)
	}
	many := append([]byte{0xd0, 8, 0x0f, 0x00}, make([]byte, 0x0f00)...)
	out["4 KB of communities"] = update(attrs(origin, asPath, nextHop, many)...)
	return out
}

// TestHostile: a peer cannot end a process, whatever it sends before and after its
// session is up. The agent does not grow, and the session with the real router does not
// notice. Every attack has a peer of its own, at an address of its own.
func TestHostile(t *testing.T) {
	t.Parallel()
	nodeSpace, routerSpace := wired(t)
	attacks, by := attacks(), map[string]attack{}
	peers := []bgp.Peer{peer("six", router6, "fd98:19::2/128")}
	for name, a := range attacks {
		addr := fmt.Sprintf("198.18.7.%d", 100+len(by))
		routerSpace.Run(t, "ip", "addr", "add", addr+"/24", "dev", "eth0")
		by[addr] = a
		peers = append(peers, peer(name, addr, "198.19.0.1/32"))
	}
	left := maps.Clone(by)
	said := make(chan string, 10*len(by))
	lurk(t, routerSpace, "0.0.0.0:179", func(conn net.Conn) {
		addr, _, _ := net.SplitHostPort(conn.LocalAddr().String())
		select {
		case said <- addr:
		default:
		}
		by[addr].on(conn)
	})
	routertest.StartBIRD(t, routerSpace, birdSix)
	p := start(t, nodeSpace)
	p.sync(peers[0])
	within(t, "the real session is established", p.established(1))
	before := p.do(order{Do: "weigh"}).Heap
	// A session that is not asked for in time ends itself: so many do not starve each other.
	for some := range slices.Chunk(peers[1:], 12) {
		p.sync(append(slices.Clone(some), peers[0])...)
		within(t, "these attacks were made, and taken in", func() bool {
			for len(said) > 0 {
				delete(left, <-said)
			}
			return takenIn(t, p, left)
		})
	}
	if len(left) > 0 {
		t.Errorf("%d attacks were not made", len(left))
	}
	p.sync(peers[0])
	if st := p.status(); len(st) != 1 || !st[0].Established || st[0].Flaps != 0 || st[0].Crashes != 0 {
		t.Errorf("the real session noticed: %+v", st)
	}
	if heap := p.do(order{Do: "weigh"}).Heap; heap > before+mostMemory {
		t.Errorf("the attacks left %d MiB", (heap-before)>>20)
	}
}

// takenIn reports whether every session but the real one has seen its peer's attack, which
// is one that left lacks.
func takenIn(t *testing.T, p *process, left map[string]attack) bool {
	t.Helper()
	for _, st := range p.status() {
		if st.Crashes > 0 {
			t.Fatalf("%s ended the session's process", st.Name)
		}
		if _, waits := left[st.Addr.String()]; waits {
			return false
		}
		// A session whose peer says nothing waits for an OPEN.
		told := st.LastError != "" && !strings.Contains(st.LastError, "started")
		if !st.Established && st.Flaps == 0 && st.State != "OpenSent" && !told {
			return false
		}
	}
	return true
}

// mostMemory is what a hostile peer may take, in bytes.
const mostMemory = 100 << 20

// birdSix is a router that speaks over IPv6 only, and leaves port 179 of IPv4 to
// the hostile one.
var birdSix = fmt.Sprintf(`router id %s;
protocol device {}
protocol kernel { ipv6 { export all; }; }
protocol bgp n6 { local %s as %d; neighbor %s as %d; strict bind on; passive on; ipv4 { import all; export none; extended next hop on; }; ipv6 { import all; export none; }; }
`, router4, router6, routerASN, node6, nodeASN)

// flood is how many routes TestFlood sends.
const flood = 100_000

// TestFlood: a peer that announces 100,000 routes keeps its session, and the session's
// process does not grow.
func TestFlood(t *testing.T) {
	t.Parallel()
	nodeSpace, routerSpace := wired(t)
	begin, done := make(chan struct{}), make(chan struct{})
	hostile(t, routerSpace, router4+":179", func(conn net.Conn) {
		<-begin
		for i := range flood / 500 {
			head := attrs(origin, asPath, nextHop)
			body := append([]byte{0, 0, 0, byte(len(head))}, head...)
			for j := range 500 {
				n := i*500 + j
				body = append(body, 32, 100, byte(n>>16), byte(n>>8), byte(n))
			}
			if _, err := conn.Write(message(2, body)); err != nil {
				return
			}
		}
		close(done)
		_, _ = io.Copy(io.Discard, conn)
	})
	p := start(t, nodeSpace)
	p.sync(peer("bad", router4, "198.19.0.1/32"))
	within(t, "established, with its path", func() bool { st := p.status()[0]; return st.Established && st.Updates > 0 })
	child := p.children()[0]
	before := resident(t, child)
	close(begin)
	within(t, "the flood is over", func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	within(t, "the session has been up for a while", func() bool { return p.steady(2 * time.Second) })
	after := resident(t, child)
	t.Logf("the session's process has %d KiB before %d routes, and %d KiB after", before>>10, flood, after>>10)
	if after > before+mostGrowth {
		t.Errorf("the session's process grew by %d KiB", (after-before)>>10)
	}
	if st := p.status()[0]; st.Flaps+st.Crashes != 0 {
		t.Errorf("the session did not stay: %+v", st)
	}
}

// mostGrowth is what the routes of a peer may add to a session's process, in bytes.
const mostGrowth = 5 << 20
