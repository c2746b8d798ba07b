package nftables

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
)

// Rule is a rule as statements and as nft prints it.
type Rule struct {
	Text       string
	Statements []Statement
	// Hash is 8 bytes of a hash over Text. The rule carries it in the kernel, and
	// a later agent knows the rule by it.
	Hash string
}

// Statement is one match or statement of a rule: a Verb, and what of the rest the
// Verb takes.
type Statement struct {
	Verb    Verb
	Set     string     // the set or map to look in
	Fields  []Selector // the key to look for
	Chains  []string   // Goto and Jump: one; Spread and Hash: those to choose from
	Return  bool       // Spread and Hash: jump to the chain, which may return
	Timeout time.Duration
	PerDay  uint64 // Update: how often it succeeds for each element, with Burst; 0: always
	Burst   uint32
	Mark    uint32 // bits that all count; with Mask, the value of the bits in it
	Mask    uint32 // bits of the mark, for Verbs that look at more than one
	text    string
}

// Verb is what a Statement does.
type Verb uint8

// The verbs. Matches end the rule if they do not match.
const (
	In                Verb = iota // match: Fields is in Set
	NotIn                         // match: Fields is not in Set
	CtNew                         // match: the first packet of a connection
	CtInvalid                     // match: a packet that belongs to no connection
	CtDNAT                        // match: the connection's destination was translated
	OpensNothing                  // match: a TCP segment that opens no connection
	SourceIsOurs                  // match: the source is one of the node's own addresses
	Marked                        // match: the packet has Mark
	NotMarked                     // match: the packet does not have Mark
	CtReply                       // match: a packet to the one who opened the connection
	CtMarked                      // match: the connection's mark has some bit of Mask
	CtMarkIs                      // match: the connection's mark has the value Mark in Mask
	RouteToSource                 // match: the route to the source leads over the link that the packet came in from
	CtToEndpoint                  // match: a client's packet to an endpoint of this node, which is not the connection's first
	DestinationIsOurs             // match: the destination is one of the node's own addresses
	RouteMissing                  // match: no route leads to the destination
	RouteBack                     // match: the route leads back over the link that the packet came in from
	EchoRequest                   // match: a ping
	Vmap                          // take the verdict that the map Set has for Fields
	Spread                        // go to one of Chains at random
	Hash                          // go to one of Chains, always the same one for a source
	Goto                          // go to Chains[0]
	Jump                          // go to Chains[0] and come back
	Return                        // go back to where the last Jump came from
	Drop                          // drop the packet
	Accept                        // end the chains of this hook, of ours alone
	DNAT                          // translate the destination to what the map Set has for Fields
	DNATAddr                      // the same where Set has an address without a port
	Redirect                      // translate the destination to the node itself
	Masquerade                    // translate the source to the node's, with a random port
	MasqueradeKept                // the same with the port of the source, if it is free
	Update                        // remember Fields in Set for Timeout
	SetMark                       // mark the packet with Mark
	ClearMark                     // remove Mark from the packet
	SetField                      // give the packet's mark the value Mark in Mask
	CtSetField                    // give the connection's mark the value Mark in Mask
	RejectTCP                     // if it is TCP: answer with a reset
	Reject                        // answer with an ICMP port unreachable
)

// Selector loads one field of a packet.
type Selector uint8

// The selectors: addresses, protocol, ports, and the link that a packet came in
// from.
const (
	Saddr Selector = iota
	Daddr
	Proto
	Dport
	Sport
	Iif
)

func selectorsText(f *Family, fields []Selector) string {
	texts := make([]string, len(fields))
	for i, s := range fields {
		texts[i] = [...]string{f.Name + " saddr", f.Name + " daddr", "meta l4proto", "th dport", "th sport", "iifname"}[s]
	}
	return strings.Join(texts, " . ")
}

// part makes a Statement for one family.
type part func(f *Family) Statement

func (l *Layout) rule(parts ...part) Rule {
	var r Rule
	texts := make([]string, len(parts))
	for i, p := range parts {
		s := p(l.Family)
		r.Statements = append(r.Statements, s)
		texts[i] = s.text
	}
	r.Text = strings.Join(texts, " ")
	sum := sha256.Sum256([]byte(r.Text))
	r.Hash = string(sum[:8])
	return r
}

// lookup is a part that looks for fields in a set; format gets both as text.
func lookup(verb Verb, format, set string, fields []Selector) part {
	return func(f *Family) Statement {
		return Statement{Verb: verb, Set: set, Fields: fields, text: fmt.Sprintf(format, selectorsText(f, fields), set)}
	}
}

func in(set string, fields ...Selector) part    { return lookup(In, "%s @%s", set, fields) }
func notIn(set string, fields ...Selector) part { return lookup(NotIn, "%s != @%s", set, fields) }
func vmap(set string, fields ...Selector) part  { return lookup(Vmap, "%s vmap @%s", set, fields) }

func dnat(set string, fields ...Selector) part {
	return func(f *Family) Statement { return lookup(DNAT, "dnat "+f.Name+" to %s map @%s", set, fields)(f) }
}

func dnatAddr(set string, fields ...Selector) part {
	return func(f *Family) Statement { return lookup(DNATAddr, "dnat to %s map @%s", set, fields)(f) }
}

func update(set string, timeout time.Duration, fields ...Selector) part {
	return func(f *Family) Statement {
		text := fmt.Sprintf("update @%s { %s timeout %s }", set, selectorsText(f, fields), nftDuration(timeout))
		return Statement{Verb: Update, Set: set, Fields: fields, Timeout: timeout, text: text}
	}
}

// updateSome is an update that succeeds for an element burst times, and then burst
// times within each timeout.
func updateSome(burst uint32, set string, timeout time.Duration, fields ...Selector) part {
	return func(f *Family) Statement {
		s := update(set, timeout, fields...)(f)
		s.Burst, s.PerDay = burst, uint64(burst)*uint64(24*time.Hour/timeout)
		s.text = strings.TrimSuffix(s.text, " }") + fmt.Sprintf(" limit rate %d/day burst %d packets }", s.PerDay, s.Burst)
		return s
	}
}

// nftDuration prints whole seconds as nft does: 1d2h3m4s without zeros.
func nftDuration(d time.Duration) string {
	var b strings.Builder
	for _, unit := range []struct {
		name string
		of   time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		if n := d / unit.of; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, unit.name)
			d -= n * unit.of
		}
	}
	return b.String()
}

// always is a part that is the same in both families.
func always(s Statement) part { return func(*Family) Statement { return s } }

// spread goes to one of chains at random; jump says that it may return.
func spread(chains []string, jump bool) part {
	text := fmt.Sprintf("numgen random mod %d ", len(chains)) + verdictsText(chains, jump)
	return always(Statement{Verb: Spread, Chains: chains, Return: jump, text: text})
}

// HashSeed is the seed of a Hash. All nodes have the same one.
const HashSeed = 0x666c

// hashed is like spread, and goes to the same chain for the same source.
func hashed(chains []string, jump bool) part {
	return func(f *Family) Statement {
		text := fmt.Sprintf("jhash %s saddr mod %d seed 0x%x ", f.Name, len(chains), HashSeed) + verdictsText(chains, jump)
		return Statement{Verb: Hash, Chains: chains, Return: jump, text: text}
	}
}

func verdictsText(chains []string, jump bool) string {
	verb := "goto"
	if jump {
		verb = "jump"
	}
	texts := make([]string, len(chains))
	for i, c := range chains {
		texts[i] = fmt.Sprintf("%d : %s %s", i, verb, c)
	}
	return "vmap { " + strings.Join(texts, ", ") + " }"
}

func goTo(chain string) part {
	return always(Statement{Verb: Goto, Chains: []string{chain}, text: "goto " + chain})
}

func jump(chain string) part {
	return always(Statement{Verb: Jump, Chains: []string{chain}, text: "jump " + chain})
}

func marking(verb Verb, mark uint32, text string) part {
	return always(Statement{Verb: verb, Mark: mark, text: text})
}

func setMark(mark uint32) part {
	return marking(SetMark, mark, fmt.Sprintf("meta mark set meta mark | 0x%08x", mark))
}

func marked(mark uint32) part {
	return marking(Marked, mark, fmt.Sprintf("meta mark & 0x%08x == 0x%08x", mark, mark))
}

func notMarked(mark uint32) part {
	return marking(NotMarked, mark, fmt.Sprintf("meta mark & 0x%08x == 0x00000000", mark))
}

func clearMark(mark uint32) part {
	return marking(ClearMark, mark, fmt.Sprintf("meta mark set meta mark ^ 0x%08x", mark))
}

// field is a marking of the bits in mask.
func field(verb Verb, mask, mark uint32, text string) part {
	return always(Statement{Verb: verb, Mark: mark, Mask: mask, text: text})
}

func setField(mask, mark uint32) part {
	return field(SetField, mask, mark, "meta mark set "+merged("meta mark", mask, mark))
}

func ctSetField(mask, mark uint32) part {
	return field(CtSetField, mask, mark, "ct mark set "+merged("ct mark", mask, mark))
}

// merged is what has the value mark in the bits of mask, as nft lists it: it keeps the bits
// that it sets.
func merged(what string, mask, mark uint32) string {
	if kept := ^mask | mark; kept != 0xffffffff {
		what += fmt.Sprintf(" & 0x%08x", kept)
	}
	if mark != 0 {
		what += fmt.Sprintf(" | 0x%08x", mark)
	}
	return what
}

func ctMarked(mask uint32) part {
	return field(CtMarked, mask, 0, fmt.Sprintf("ct mark & 0x%08x != 0x00000000", mask))
}

func ctMarkIs(mask, mark uint32) part {
	return field(CtMarkIs, mask, mark, fmt.Sprintf("ct mark & 0x%08x == 0x%08x", mask, mark))
}

func plain(verb Verb, text string) part { return always(Statement{Verb: verb, text: text}) }

func drop() part              { return plain(Drop, "drop") }
func accept() part            { return plain(Accept, "accept") }
func ret() part               { return plain(Return, "return") }
func ctNew() part             { return plain(CtNew, "ct state new") }
func ctInvalid() part         { return plain(CtInvalid, "ct state invalid") }
func ctDNAT() part            { return plain(CtDNAT, "ct status dnat") }
func destinationIsOurs() part { return plain(DestinationIsOurs, "fib daddr type local") }
func routeMissing() part      { return plain(RouteMissing, "fib daddr oif missing") }
func routeBack() part         { return plain(RouteBack, "fib daddr . iif oif exists") }

func ctReply() part       { return plain(CtReply, "ct direction reply") }
func routeToSource() part { return plain(RouteToSource, "fib saddr . iif oif exists") }

// ctToEndpoint matches where the source was kept: what is masqueraded may be on its way
// to another node.
func ctToEndpoint() part {
	return plain(CtToEndpoint, "ct direction original ct state established ct status dnat / snat,dnat")
}

func opensNothing() part   { return plain(OpensNothing, "tcp flags != syn / fin,syn,rst,ack") }
func sourceIsOurs() part   { return plain(SourceIsOurs, "fib saddr type local") }
func masquerade() part     { return plain(Masquerade, "masquerade fully-random") }
func masqueradeKept() part { return plain(MasqueradeKept, "masquerade") }
func rejectTCP() part      { return plain(RejectTCP, "reject with tcp reset") }
func reject() part         { return plain(Reject, "reject") }
func redirect() part       { return plain(Redirect, "redirect") }

func echoRequest() part {
	return func(f *Family) Statement {
		return Statement{Verb: EchoRequest, text: f.icmpName + " type echo-request"}
	}
}
