package proxy_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
	"github.com/fairlead/fairlead/nodeport"
	"github.com/fairlead/fairlead/proxy"
)

// rules are the numbers of the rules of service semantics that a Table alone
// decides. Each has a story.
var rules = []int{
	1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 23, 24, 25, 26, 27, 28, 29,
	30, 31, 32, 33, 34, 35, 36, 37, 38, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68,
	69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 86, 88, 92, 96, 109,
}

// TestStories tells every file in testdata to Compile and asks the Table. A
// "cluster" or "then" section changes the cluster. "on NODE" asks what becomes
// of packets there; "table of NODE" wants the whole Table, and "counts on NODE"
// what Table.NoLocal counts. NODE may be followed by nodeports=CIDRS,
// service-cidrs=CIDRS, refused=CIDRS, gone=NODES, direct=SERVICES, listening=PROTO/ADDR:PORT and external-ips.
func TestStories(t *testing.T) {
	told := map[int]bool{}
	storytest.Each(t, func(t *testing.T, s *storytest.Story) {
		numbers(t, s.Comment, told)
		(&teller{world: storytest.NewWorld(), compilers: map[string]*proxy.Compiler{}}).tell(t, s)
	})
	for _, n := range rules {
		if !told[n] {
			t.Errorf("no story shows rule %d", n)
		}
	}
}

var head = regexp.MustCompile(`^# (spec ([0-9, ]+)|beyond): \S`)

// numbers notes the rules that a comment says it shows.
func numbers(t *testing.T, comment string, told map[int]bool) {
	m := head.FindStringSubmatch(comment)
	if m == nil {
		t.Fatal("a story begins with `# spec N, M: what it shows` or `# beyond: what it shows`")
	}
	for text := range strings.SplitSeq(m[2], ",") {
		if n, err := strconv.Atoi(strings.TrimSpace(text)); err == nil {
			told[n] = true
		}
	}
}

// teller keeps one Compiler a node through a story: its memory must not show.
type teller struct {
	world     *storytest.World
	compilers map[string]*proxy.Compiler
	node      *snapshot.Node
}

func (te *teller) tell(t *testing.T, s *storytest.Story) {
	for _, sec := range s.Sections {
		switch sec.Kind() {
		case "cluster", "then":
			if err := te.world.Do(sec.Text); err != nil {
				t.Fatal(err)
			}
		case "on":
			sec.Want(t, te.answers(t, te.compile(t, sec.Args()), sec.Text))
		case "table":
			sec.Want(t, te.compile(t, strings.TrimPrefix(sec.Args(), "of ")).String())
		case "counts":
			sum := proxy.Summarize(te.compile(t, strings.TrimPrefix(sec.Args(), "on ")))
			internal, external := sum.NoLocalInternal, sum.NoLocalExternal
			sec.Want(t, fmt.Sprintf("internal %d external %d\n", internal, external))
		default:
			t.Fatalf("no section %q", sec.Name)
		}
	}
}

// compile makes the Table of "NODE OPTIONS" and checks what holds of every Table.
func (te *teller) compile(t *testing.T, text string) *proxy.Table {
	t.Helper()
	s, err := te.world.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(text)
	name, opt, cidrs := words[0], proxy.Options{}, []netip.Prefix(nil)
	for _, w := range words[1:] {
		option, value, _ := strings.Cut(w, "=")
		switch option {
		case "external-ips":
			opt.ExternalIPs = true
		case "nodeports":
			cidrs = prefixes(t, value)
		case "detect-local":
			if opt.Local, err = proxy.ParseLocal(value); err != nil {
				t.Fatal(err)
			}
		case "routed":
			for _, text := range strings.Split(value, ",") {
				opt.Routed = append(opt.Routed, netip.MustParseAddr(text))
			}
		case "own":
			for _, text := range strings.Split(value, ",") {
				opt.Own = append(opt.Own, netip.MustParseAddr(text))
			}
		case "listening":
			for _, text := range strings.Split(value, ",") {
				protocol, addr, _ := strings.Cut(text, "/")
				opt.Listening = append(opt.Listening, proxy.Target{
					Protocol: map[string]snapshot.Protocol{"tcp": snapshot.TCP, "udp": snapshot.UDP}[protocol], Addr: netip.MustParseAddrPort(addr),
				})
			}
		case "gone":
			opt.Quarantined = strings.Split(value, ",")
		case "direct":
			for _, text := range strings.Split(value, ",") {
				namespace, name, _ := strings.Cut(text, "/")
				opt.Direct = append(opt.Direct, snapshot.Ref{Namespace: namespace, Name: name})
			}
		case "refused":
			opt.Refused = prefixes(t, value)
		case "service-cidrs":
			opt.ServiceCIDRs = prefixes(t, value)
		default:
			t.Fatalf("no option %q", w)
		}
	}
	te.node = s.Node(name)
	if te.node == nil {
		te.node = &snapshot.Node{}
	}
	on := nodeport.Resolve(s.Node(name), nil, cidrs)
	table := proxy.Compile(s, name, on, opt)
	violations(t, table)
	if te.compilers[name] == nil {
		te.compilers[name] = &proxy.Compiler{}
	}
	same(t, "with a memory", table, te.compilers[name].Compile(s, name, on, opt))
	same(t, "from an input in another order", table, proxy.Compile(shuffled(s), name, on, opt))
	return table
}

// check is a test that may be one of many random ones.
type check interface {
	Helper()
	Errorf(format string, args ...any)
}

func same(t check, how string, want, got *proxy.Table) {
	t.Helper()
	if got.String() != want.String() {
		t.Errorf("compiled %s:\n%s-- want --\n%s", how, got, want)
	}
}

func prefixes(t *testing.T, text string) []netip.Prefix {
	t.Helper()
	var out []netip.Prefix
	for p := range strings.SplitSeq(text, ",") {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// answers asks each line "WHO [SOURCE] PROTOCOL ADDR:PORT => ANSWER", where WHO
// is pod, outside or host (this node itself, by default with its own address),
// and may be followed by the link that it comes in from, as in pod:cali1.
func (te *teller) answers(t *testing.T, table *proxy.Table, text string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(text) {
		question, _, _ := strings.Cut(strings.TrimSpace(line), " =>")
		if question == "" || question[0] == '#' {
			b.WriteString(line)
			continue
		}
		p, err := te.packet(strings.Fields(question))
		if err != nil {
			t.Fatalf("%s: %v", question, err)
		}
		fmt.Fprintf(&b, "%s => %s\n", question, table.Trace(p))
	}
	return b.String()
}

func (te *teller) packet(words []string) (p proxy.Packet, err error) {
	if who, _, _ := strings.Cut(words[0], ":"); len(words) < 3 || !slices.Contains([]string{"pod", "outside", "host"}, who) {
		return p, fmt.Errorf("want pod, outside or host, a source, a protocol and a destination")
	}
	words[0], p.Link, _ = strings.Cut(words[0], ":")
	n := len(words)
	p.Protocol = map[string]snapshot.Protocol{"tcp": snapshot.TCP, "udp": snapshot.UDP, "sctp": snapshot.SCTP}[words[n-2]]
	if p.Protocol == 0 {
		return p, fmt.Errorf("no protocol %q", words[n-2])
	}
	if p.Dst, err = netip.ParseAddrPort(words[n-1]); err != nil {
		return p, err
	}
	p.FromNode = words[0] == "host"
	if n == 4 {
		p.Src, err = netip.ParseAddr(words[1])
		return p, err
	}
	i := slices.IndexFunc(te.node.InternalIPs, func(a netip.Addr) bool { return a.Is4() == p.Dst.Addr().Is4() })
	if !p.FromNode || i < 0 {
		return p, fmt.Errorf("no source address")
	}
	p.Src = te.node.InternalIPs[i]
	return p, nil
}

// violations checks what the documentation of Table promises.
func violations(t check, table *proxy.Table) {
	t.Helper()
	type match struct {
		family   snapshot.Family
		addr     netip.Addr
		protocol snapshot.Protocol
		port     uint16
	}
	seen := map[match]*proxy.Frontend{}
	for _, f := range table.Frontends {
		m := match{f.Family, f.Addr, f.Protocol, f.Port}
		if seen[m] != nil {
			t.Errorf("two frontends match the same packets:\n%s\n%s", seen[m], f)
		}
		seen[m] = f
		if !ascending(f.Cluster, netip.AddrPort.Compare) || !ascending(f.Local, netip.AddrPort.Compare) {
			t.Errorf("endpoints out of order: %s", f)
		}
		if f.Local != nil && !f.LocalOnly && !f.Directed {
			t.Errorf("local endpoints without LocalOnly or Directed: %s", f)
		}
		if empty := len(f.Cluster) == 0 || f.LocalOnly && len(f.Local) == 0; empty != (f.Empty != proxy.Forward) {
			t.Errorf("the verdict for no endpoint does not fit: %s", f)
		}
		if f.Sources != nil && overlap(f.Sources) {
			t.Errorf("sources overlap: %s", f)
		}
	}
	if !ascending(table.Frontends, func(a, b *proxy.Frontend) int { return a.Key.Compare(b.Key) }) ||
		!ascending(table.Hairpin, proxy.Target.Compare) || !ascending(table.NodePortAddrs, netip.Addr.Compare) {
		t.Errorf("table out of order:\n%s", table)
	}
	if overlap(table.ServiceCIDRs) || overlap(table.LocalPods) {
		t.Errorf("prefixes overlap:\n%s", table)
	}
}

// ascending reports whether items are sorted and without duplicates.
func ascending[T any](items []T, compare func(a, b T) int) bool {
	for i := 1; i < len(items); i++ {
		if compare(items[i-1], items[i]) >= 0 {
			return false
		}
	}
	return true
}

func overlap(ps []netip.Prefix) bool {
	for i, p := range ps {
		if slices.ContainsFunc(ps[i+1:], p.Overlaps) {
			return true
		}
	}
	return false
}

// shuffled is the same cluster with everything out of order that a Snapshot
// does not sort.
func shuffled(s *snapshot.Snapshot) *snapshot.Snapshot {
	r := rand.New(rand.NewPCG(1, 2))
	out := &snapshot.Snapshot{Nodes: mixed(r, s.Nodes), Pools: mixed(r, s.Pools), ServiceCIDRs: mixed(r, s.ServiceCIDRs)}
	for _, a := range mixed(r, s.Addresses) {
		c := *a
		c.Holders = mixed(r, a.Holders)
		out.Addresses = append(out.Addresses, &c)
	}
	for _, a := range mixed(r, s.NodeAddresses) {
		c := *a
		c.Holders = mixed(r, a.Holders)
		out.NodeAddresses = append(out.NodeAddresses, &c)
	}
	for _, svc := range mixed(r, s.Services) {
		c := *svc
		c.Ports, c.Endpoints, c.ClusterIPs, c.Ingress = mixed(r, c.Ports), mixed(r, c.Endpoints), mixed(r, c.ClusterIPs), mixed(r, c.Ingress)
		c.ExternalIPs, c.SourceRanges = mixed(r, c.ExternalIPs), mixed(r, c.SourceRanges)
		out.Services = append(out.Services, &c)
	}
	out.Sort()
	return out
}

func mixed[T any](r *rand.Rand, in []T) []T {
	out := slices.Clone(in)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}
