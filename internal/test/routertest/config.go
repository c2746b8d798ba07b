package routertest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// Config is what a router does, whichever program it is.
type Config struct {
	ASN       uint32
	ID        string // router ID
	Graceful  bool   // helps with graceful restart
	BFD       int    // milliseconds between packets, lost after 3; 0: no BFD
	Reflect   bool   // BIRD announces every route to every neighbor; FRR does so always
	Neighbors []Neighbor
}

// Neighbor is a node. It gets both families, and announces nothing that is not
// taken.
type Neighbor struct {
	Addr, Local string // of the node, of the router
	ASN         uint32
	Password    string
	Hops        int  // how far away it may be (RFC 5082); 0: off
	Multihop    bool // it is on no link
	Dial        bool // the router opens the session
	OwnHop      bool // it has IPv4 prefixes with an IPv6 next hop (RFC 8950)
}

// Router is FRR or BIRD, running.
type Router interface {
	// Change makes the router do what c says. Neighbours stay.
	Change(t testing.TB, c Config)
	// Path is what the router knows of a prefix, in its words.
	Path(t testing.TB, prefix string) string
	// Peer is what the router knows of a session, in its words.
	Peer(t testing.TB, addr string) string
	// Sent is how many IPv4 prefixes the router announces over a session.
	Sent(t testing.TB, addr string) int
}

// Routers start the programs that there are, by name.
var Routers = map[string]func(testing.TB, nstest.Space, Config) Router{
	"FRR":  func(t testing.TB, ns nstest.Space, c Config) Router { return StartFRR(t, ns, c.frr()) },
	"BIRD": func(t testing.TB, ns nstest.Space, c Config) Router { return StartBIRD(t, ns, c.bird()) },
}

// frr is c for FRR's daemons.
func (c Config) frr() map[string]string {
	var b, activate strings.Builder
	fmt.Fprintf(&b, "router bgp %d\n bgp router-id %s\n no bgp ebgp-requires-policy\n no bgp network import-check\n", c.ASN, c.ID)
	if c.Graceful {
		b.WriteString(" bgp graceful-restart\n")
	}
	for _, n := range c.Neighbors {
		add := func(format string, args ...any) { fmt.Fprintf(&b, " neighbor "+n.Addr+" "+format+"\n", args...) }
		add("remote-as %d", n.ASN)
		add(map[bool]string{false: "passive", true: "timers connect 1"}[n.Dial])
		if n.Password != "" {
			add("password %s", n.Password)
		}
		if n.Hops > 0 {
			add("ttl-security hops %d", n.Hops)
		}
		if n.Multihop {
			add("ebgp-multihop 8")
		}
		if n.OwnHop {
			add("capability extended-nexthop")
		}
		if c.BFD > 0 {
			add("bfd")
			add("bfd profile node")
		}
		fmt.Fprintf(&activate, "  neighbor %s activate\n", n.Addr)
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		fmt.Fprintf(&b, " address-family %s unicast\n%s exit-address-family\n", family, activate.String())
	}
	out := map[string]string{"bgpd": b.String() + "exit\n"}
	if c.BFD > 0 {
		out["bfdd"] = fmt.Sprintf("bfd\n profile node\n  detect-multiplier 3\n  receive-interval %d\n  transmit-interval %d\n exit\nexit\n", c.BFD, c.BFD)
	}
	return out
}

// bird is c for BIRD.
func (c Config) bird() string {
	var b strings.Builder
	fmt.Fprintf(&b, `router id %s;
protocol device {}
protocol kernel { ipv4 { export all; }; }
protocol kernel { ipv6 { export all; }; }
`, c.ID)
	common := "error wait time 1, 2;"
	if c.BFD > 0 {
		way := fmt.Sprintf("interval %d ms; multiplier 3;", c.BFD)
		fmt.Fprintf(&b, "protocol bfd { interface \"*\" { %s }; multihop { %s }; }\n", way, way)
		common += " bfd on;"
	}
	if c.Graceful {
		common += " graceful restart on;"
	}
	for i, n := range c.Neighbors {
		extra := common + map[bool]string{false: " passive on;", true: " connect delay time 1; connect retry time 1;"}[n.Dial]
		if n.Password != "" {
			extra += fmt.Sprintf(" password %q;", n.Password)
		}
		if n.Hops > 0 {
			extra += " ttl security on;"
		}
		if n.Multihop || n.Hops > 1 {
			extra += " multihop 8;"
		} else {
			extra += " direct;"
		}
		export := map[bool]string{false: "none", true: "all"}[c.Reflect]
		four := "import all; export " + export + ";"
		if n.OwnHop {
			four += " extended next hop on;"
		}
		fmt.Fprintf(&b, "protocol bgp n%d { local %s as %d; neighbor %s as %d; ipv4 { %s }; ipv6 { import all; export %s; }; %s }\n",
			i, n.Local, c.ASN, n.Addr, n.ASN, four, export, extra)
	}
	return b.String()
}

// Change implements Router.
func (r *FRR) Change(t testing.TB, c Config) {
	t.Helper()
	r.Configure(t, "bgpd", strings.Split(strings.TrimSpace(c.frr()["bgpd"]), "\n")...)
}

// Path implements Router.
func (r *FRR) Path(t testing.TB, prefix string) string {
	t.Helper()
	return r.Show(t, "bgpd", "show bgp "+map[bool]string{false: "ipv4", true: "ipv6"}[strings.Contains(prefix, ":")]+" unicast "+prefix)
}

// Peer implements Router.
func (r *FRR) Peer(t testing.TB, addr string) string {
	t.Helper()
	return r.Show(t, "bgpd", "show bgp neighbors "+addr)
}

// Change implements Router.
func (r *BIRD) Change(t testing.TB, c Config) {
	t.Helper()
	write(t, r.dir+"/bird.conf", c.bird())
	r.Show(t, "configure")
}

// Path implements Router.
func (r *BIRD) Path(t testing.TB, prefix string) string {
	t.Helper()
	return r.Show(t, "show route for "+prefix+" all")
}

// Peer implements Router. BIRD is asked for all sessions.
func (r *BIRD) Peer(t testing.TB, _ string) string {
	t.Helper()
	return r.Show(t, "show protocols all")
}

// Sent implements Router.
func (r *FRR) Sent(t testing.TB, addr string) int {
	t.Helper()
	return number(r.Show(t, "bgpd", "show bgp ipv4 unicast neighbors "+addr+" advertised-routes"), `Total number of prefixes (\d+)`)
}

// Sent implements Router.
func (r *BIRD) Sent(t testing.TB, addr string) int {
	t.Helper()
	_, after, _ := strings.Cut(r.Peer(t, addr), "Neighbor address: "+addr)
	return number(after, `(\d+) exported`)
}

// number is the first one in text that pattern captures; 0: none.
func number(text, pattern string) (n int) {
	if found := regexp.MustCompile(pattern).FindStringSubmatch(text); found != nil {
		n, _ = strconv.Atoi(found[1])
	}
	return n
}
