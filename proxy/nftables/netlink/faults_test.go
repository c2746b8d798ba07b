package netlink

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/intercept"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// The steps of a Sync, as the kernel sees them. "answer" is the read of the kernel's
// answer to a transaction, which is in force then.
const (
	openSocket     = "open a socket"
	readGeneration = "read the generation"
	readTable      = "read a table"
	readSets       = "read the sets"
	readChains     = "read the chains"
	readRules      = "read the rules"
	readElements   = "read elements"
	readEvents     = "read events"
	createTables   = "create the tables"
	addChains      = "add chains and sets"
	changeElements = "change elements"
	forgetElements = "forget clients"
	listFlows      = "list connections"
	endFlows       = "end connections"
	answerTo       = "answer: "
)

// stepNamer names the system calls of an Engine.
type stepNamer struct {
	sent    map[uint64]string // the last step, by socket
	refused map[uint64][]byte // answers to come, by socket
}

// Step implements dataplanetest.Steps.
func (n *stepNamer) Step(c intercept.Call, _ []string) string {
	socket := c.Args[0]
	switch c.Number {
	case unix.SYS_SOCKET:
		return openSocket
	case unix.SYS_SENDTO:
		n.sent[socket] = stepOf(c.Memory(1, int(c.Args[2])))
		return n.sent[socket]
	}
	switch last := n.sent[socket]; last {
	case createTables, addChains, changeElements, forgetElements:
		return answerTo + last
	case readTable, readSets, readChains, readRules, readElements, listFlows, endFlows:
		return ""
	}
	if watching(c, int(socket)) {
		return readEvents
	}
	return ""
}

// watching reports whether a socket of the process gets events.
func watching(c intercept.Call, fd int) bool {
	const listMemberships = 9 // NETLINK_LIST_MEMBERSHIPS
	own, err := c.File(fd)
	if err != nil {
		return false
	}
	defer unix.Close(own)
	groups, err := unix.GetsockoptInt(own, unix.SOL_NETLINK, listMemberships)
	return err == nil && groups != 0
}

// stepOf names a datagram.
func stepOf(b []byte) string {
	kinds := map[uint16]bool{}
	var first uint16
	elements, affinity := false, true // elements of named sets, all of them of affinity
	_ = messages(b, func(m message) error {
		if first == 0 {
			first = m.typ
		}
		kinds[m.typ] = true
		if m.typ == nft(unix.NFT_MSG_NEWSETELEM) || m.typ == nft(unix.NFT_MSG_DELSETELEM) {
			set := cstring(attribute(m.data, unix.NFTA_SET_ELEM_LIST_SET))
			anonymous := strings.HasPrefix(set, "__") // part of a rule
			elements = elements || !anonymous
			affinity = affinity && strings.Contains(set, "affinity-")
		}
		return nil
	})
	switch {
	case first == ctGet:
		return listFlows
	case first == ctDelete:
		return endFlows
	case first != unix.NFNL_MSG_BATCH_BEGIN:
		return map[uint16]string{
			nft(unix.NFT_MSG_GETGEN): readGeneration, nft(unix.NFT_MSG_GETTABLE): readTable, nft(unix.NFT_MSG_GETSET): readSets,
			nft(unix.NFT_MSG_GETCHAIN): readChains, nft(unix.NFT_MSG_GETRULE): readRules, nft(unix.NFT_MSG_GETSETELEM): readElements,
		}[first]
	case kinds[nft(unix.NFT_MSG_NEWTABLE)]:
		return createTables
	case !elements && !kinds[nft(unix.NFT_MSG_DELCHAIN)]:
		return addChains
	case elements && affinity && !kinds[nft(unix.NFT_MSG_NEWSETELEM)]:
		return forgetElements
	}
	return changeElements
}

// Answer implements dataplanetest.Steps: it has the kernel's answer to a transaction be an
// error, without the transaction.
func (n *stepNamer) Answer(c intercept.Call, f dataplanetest.Fault) intercept.Verdict {
	socket := c.Args[0]
	switch {
	case f.Reply && c.Number == unix.SYS_SENDTO:
		n.refused[socket] = refusal(c.Memory(1, int(c.Args[2])), f.Errno)
		return intercept.Verdict{Answered: true, Value: int64(c.Args[2])}
	case c.Number == unix.SYS_RECVFROM && n.refused[socket] != nil:
		data := n.refused[socket]
		delete(n.refused, socket)
		if err := c.Fill(1, data); err != nil {
			panic(err)
		}
		return intercept.Verdict{Answered: true, Value: int64(len(data))}
	}
	return intercept.Verdict{}
}

// refusal is an answer that refuses a transaction, at the first element that it adds.
func refusal(b []byte, errno unix.Errno) []byte {
	begin := binary.NativeEndian.Uint32(b[8:])
	seq := begin
	_ = messages(b, func(m message) error {
		if seq == begin && m.typ == nft(unix.NFT_MSG_NEWSETELEM) {
			seq = m.seq
		}
		return nil
	})
	const length = 2*unix.NLMSG_HDRLEN + 4
	out := binary.NativeEndian.AppendUint32(nil, length)
	out = binary.NativeEndian.AppendUint16(out, unix.NLMSG_ERROR)
	out = binary.NativeEndian.AppendUint16(out, 0)
	out = binary.NativeEndian.AppendUint32(out, seq)
	out = binary.NativeEndian.AppendUint32(out, 0)
	out = binary.NativeEndian.AppendUint32(out, uint32(-int32(errno)))
	return append(out, b[:unix.NLMSG_HDRLEN]...)
}

// serveVictim is the process of a Victim, whose descriptor 3 is the namespace.
func serveVictim() {
	dataplanetest.Serve(New(Options{Netns: 3}), intercept.Filter{Number: unix.SYS_SOCKET, First: []uint32{unix.AF_NETLINK}},
		intercept.Filter{Number: unix.SYS_SENDTO}, intercept.Filter{Number: unix.SYS_RECVFROM})
}

// faultTables are Tables of both families. From the first to the second, clients are
// to be forgotten, UDP flows end, and chains come and go. podA serves in both.
func faultTables() (before, after *proxy.Table) {
	make := func(other func(addressing) netip.Addr, timeout time.Duration) *proxy.Table {
		t := &proxy.Table{}
		for _, family := range bothFamilies {
			a := addressesOf(family)
			moved := a.front(proxy.ClusterIP, "tcp", other(a))
			more := a.front(proxy.ExternalIP, "tcp", a.podA, other(a))
			more.Addr = a.other
			one := a.table(a.front(proxy.VIP, "tcp", a.podA, other(a)), a.front(proxy.VIP, "udp", other(a)),
				sticky(moved, time.Hour), sticky(more, timeout))
			t.Frontends = append(t.Frontends, one.Frontends...)
			t.NodePortAddrs = append(t.NodePortAddrs, one.NodePortAddrs...)
			t.ServiceCIDRs = append(t.ServiceCIDRs, one.ServiceCIDRs...)
			t.LocalPods = append(t.LocalPods, one.LocalPods...)
			t.Hairpin = append(t.Hairpin, one.Hairpin...)
		}
		slices.SortFunc(t.Frontends, func(a, b *proxy.Frontend) int { return a.Key.Compare(b.Key) })
		slices.SortFunc(t.Hairpin, proxy.Target.Compare)
		return t
	}
	return make(func(a addressing) netip.Addr { return a.podB }, time.Minute),
		make(func(a addressing) netip.Addr { return a.remote }, 5*time.Minute)
}

// answers checks Frontends from the client.
func (l *lab) answers(t *testing.T, tables ...*proxy.Table) {
	t.Helper()
	names := map[netip.Addr]string{}
	for _, family := range bothFamilies {
		a := addressesOf(family)
		names[a.podA], names[a.podB], names[a.remote] = "podA", "podB", "remote"
	}
	for _, f := range tables[0].Frontends {
		var want []string
		for _, table := range tables {
			for _, same := range table.Frontends {
				for _, ep := range same.Cluster {
					if same.Key == f.Key {
						want = append(want, names[ep.Addr()])
					}
				}
			}
		}
		network := strings.ToLower(f.Protocol.String())
		got, _, _ := strings.Cut(l.client.ask(network, netip.AddrPortFrom(f.Addr, f.Port)), " ")
		if !slices.Contains(want, got) {
			t.Errorf("%s: %q answers, want one of %q", f.Key, got, want)
		}
	}
}

// stays opens a connection to podA, and returns how to check it.
func (l *lab) stays(t *testing.T, to netip.AddrPort) func(t *testing.T) {
	t.Helper()
	var c net.Conn
	for c == nil {
		open, err := l.client.dial("tcp", to, netip.AddrPort{}, patient)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := say(open, patient); err != nil {
			t.Fatal(err)
		} else if strings.HasPrefix(got, "podA") {
			c = open
		} else {
			open.Close()
		}
	}
	t.Cleanup(func() { c.Close() })
	return func(t *testing.T) {
		t.Helper()
		if got, err := say(c, patient); err != nil || !strings.HasPrefix(got, "podA") {
			t.Errorf("the open connection: %q, %v", got, err)
		}
	}
}

// objects lists the tables, sets, maps and chains in the namespace.
func (s space) objects(t *testing.T) string {
	t.Helper()
	var out []string
	for line := range strings.Lines(s.Run(t, "nft", "-s", "list", "ruleset")) {
		kind, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if slices.Contains([]string{"table", "set", "map", "chain"}, kind) {
			out = append(out, line)
		}
	}
	return sorted(strings.Join(out, ""))
}

// staleFlows reports whether the node tracks a UDP flow to an endpoint that the tables
// do not have.
func (l *lab) staleFlows(t *testing.T) bool {
	t.Helper()
	table, err := l.node.engine(t).Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for family, name := range map[snapshot.Family]string{snapshot.IPv4: "ipv4", snapshot.IPv6: "ipv6"} {
		for line := range strings.Lines(l.node.Run(t, "conntrack", "-f", name, "-L", "-p", "udp")) {
			words := strings.Fields(line)
			served := !strings.HasPrefix(line, "udp") // what the program says of itself
			for _, f := range table.Frontends {
				for _, ep := range f.Cluster {
					served = served || f.Family == family && f.Protocol == snapshot.UDP && slices.Contains(words, "src="+ep.Addr().String())
				}
			}
			if !served {
				return true
			}
		}
	}
	return false
}

// What goes wrong at a step of a Sync, or ends the process there, harms no connection
// and leaves nothing behind.
func TestFaults(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	before, after := faultTables()
	sync(t, l.engine, before)
	alive := l.stays(t, netip.AddrPortFrom(addressesOf(nftables.IP4.ID).vip, 80))
	l.engine.Close()
	read := []string{openSocket, readEvents, readTable}
	g := &dataplanetest.Ground{
		Victim: func(t *testing.T) dataplanetest.Victim {
			netns, err := os.Open("/run/netns/" + l.node.Name)
			if err != nil {
				t.Fatal(err)
			}
			defer netns.Close()
			return dataplanetest.StartProcess(t, &stepNamer{sent: map[uint64]string{}, refused: map[uint64][]byte{}}, "", netns)
		},
		New:    func(t *testing.T) proxy.Dataplane { return l.node.engine(t) },
		Before: before, After: after,
		First:  append(slices.Clone(read), createTables, answerTo+createTables, listFlows),
		Change: []string{readEvents, addChains, answerTo + addChains, changeElements, answerTo + changeElements, readElements, forgetElements, answerTo + forgetElements, openSocket, listFlows, endFlows},
		Adopt:  append(slices.Clone(read), readSets, readChains, readRules, readElements, addChains, answerTo+addChains, changeElements, answerTo+changeElements, forgetElements, answerTo+forgetElements, listFlows, endFlows),
		Faults: stepFaults,
		Fresh: func(t *testing.T) { // chains stay when no Frontend needs them any more
			l.podA.wantAcknowledged(t, snapshot.IPv4)
			if err := l.node.engine(t).Cleanup(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, family := range []string{"ipv4", "ipv6"} {
				_, _ = l.node.Try("conntrack", "-f", family, "-D", "-p", "udp") // without any it fails
			}
		},
		Answers: l.answers, Alive: alive,
		Held: func(t *testing.T) string {
			nstest.Eventually(t, "UDP flows to endpoints that went to end", func() bool { return !l.staleFlows(t) })
			return l.node.objects(t)
		},
	}
	dataplanetest.Faults(t, g)
}

// often is more often than a Sync tries.
const often = 20

// stepFaults are the errors of a step: of the call, and of a transaction also the
// kernel's answers.
func stepFaults(step string) []dataplanetest.Fault {
	call := dataplanetest.Fault{Step: step, Errno: unix.ENOBUFS}
	full := dataplanetest.Fault{Step: step, Errno: unix.ENOSPC, Reply: true, Says: "add "} // to a set, or a chain
	switch step {
	case openSocket:
		return []dataplanetest.Fault{{Step: step, Errno: unix.EMFILE}}
	case createTables, addChains:
		return []dataplanetest.Fault{call, full}
	case changeElements:
		return []dataplanetest.Fault{
			call, full, {Step: step, Errno: unix.ENOMEM, Reply: true, Says: "add "},
			{Step: step, Errno: unix.EEXIST, Reply: true}, {Step: step, Errno: unix.EEXIST, Reply: true, Times: often},
		}
	}
	return []dataplanetest.Fault{call}
}
