package agent

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

var measureFloods = flag.Bool("measure-floods", false, "flood a VIP for 10 s at 100,000 packets a second, and print what it costs")

const (
	floodRate   = 100_000 // packets a second
	floodTick   = 2 * time.Millisecond
	floodSource = "100.64.0.0/10" // where a flood says that it comes from
)

// flood is packets that the client sends to the owner.
type flood struct {
	flags   byte
	sources int // how many addresses it says that it comes from
	during  time.Duration
}

// start sends a flood, and returns how to wait for its end. That returns the number of
// packets.
func (l *directLab) start(t *testing.T, f flood) (wait func() int) {
	t.Helper()
	mac := func(s nstest.Space, link string) net.HardwareAddr {
		out := strings.Fields(s.Run(t, "cat", "/sys/class/net/"+link+"/address"))
		a, err := net.ParseMAC(out[0])
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	next, link := l.nodes[0].space, "lan"
	if l.routed {
		next, link = l.bridge, "port9"
	}
	frame := segmentFrame(mac(next, link), mac(l.client, "lan"), directVIPs[0], f.flags)
	type result struct {
		sent int
		err  error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		r.err = l.client.In(func() (err error) {
			r.sent, err = f.send(frame)
			return err
		})
		done <- r
	}()
	return func() int {
		t.Helper()
		r := <-done
		if r.err != nil || r.sent == 0 {
			t.Fatalf("%d packets, %v", r.sent, r.err)
		}
		return r.sent
	}
}

// send sends frame again and again with other sources, at the rate.
func (f flood) send(frame []byte) (sent int, err error) {
	link, err := net.InterfaceByName("lan")
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	to, began := &unix.SockaddrLinklayer{Ifindex: link.Index}, time.Now()
	first := netip.MustParsePrefix(floodSource).Addr().As4()
	for now := began; now.Sub(began) < f.during; now = time.Now() {
		for due := int(now.Sub(began).Seconds() * floodRate); sent < due; sent++ {
			source := binary.BigEndian.Uint32(first[:]) + 1 + uint32(sent%f.sources)
			fill(frame, source, uint16(1024+sent/f.sources%60000))
			err := unix.Sendto(fd, frame, 0, to)
			if errors.Is(err, unix.ENOBUFS) {
				break // the link takes no more for now
			}
			if err != nil {
				return sent, err
			}
		}
		time.Sleep(floodTick) // the pace
	}
	return sent, nil
}

// segmentFrame is a TCP segment to a VIP without a source.
func segmentFrame(to, from net.HardwareAddr, vip netip.AddrPort, flags byte) []byte {
	b := append(append(append([]byte{}, to...), from...), 8, 0)
	ip := make([]byte, 40)
	ip[0], ip[3], ip[8], ip[9] = 0x45, 40, 64, unix.IPPROTO_TCP
	copy(ip[16:], vip.Addr().AsSlice())
	binary.BigEndian.PutUint16(ip[22:], vip.Port())
	ip[32], ip[33] = 5<<4, flags
	binary.BigEndian.PutUint16(ip[34:], 1000)
	return append(b, ip...)
}

// fill writes the source, and what depends on it.
func fill(frame []byte, source uint32, port uint16) {
	ip := frame[14:]
	binary.BigEndian.PutUint32(ip[12:], source)
	binary.BigEndian.PutUint16(ip[20:], port)
	ip[10], ip[11], ip[36], ip[37] = 0, 0, 0, 0
	binary.BigEndian.PutUint16(ip[10:], checksum(0, ip[:20]))
	binary.BigEndian.PutUint16(ip[36:], checksum(unix.IPPROTO_TCP+20, ip[12:40]))
}

func checksum(sum uint32, b []byte) uint16 {
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// entries are the connections that a node's conntrack has.
func (n *directNode) entries(t *testing.T) int {
	t.Helper()
	count, err := strconv.Atoi(strings.TrimSpace(n.space.Run(t, "cat", "/proc/sys/net/netfilter/nf_conntrack_count")))
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// machineBusy is for how long all processors have worked, without what programs of a lower
// priority did in user mode.
func machineBusy(t *testing.T) (sum time.Duration) {
	t.Helper()
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(data), "\n")
	for i, text := range strings.Fields(first)[1:] {
		ticks, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if i != 1 && i != 3 && i != 4 && i < 8 { // not those of lower priority, idle, iowait and guests
			sum += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return sum
}

// say prints a figure if floods are measured.
func say(t *testing.T, format string, args ...any) {
	t.Helper()
	if t.Logf(strings.TrimSpace(format), args...); *measureFloods {
		fmt.Printf(format, args...)
	}
}

// A flood of SYNs leaves nothing on the owner of a directed VIP, where Masquerade keeps an
// entry for each. A flood of ACKs is passed on no more often than its source may have it,
// and does not keep another client's connection from being found.
func TestDirectFloods(t *testing.T) {
	nstest.NeedRoot(t)
	during := 300 * time.Millisecond
	if *measureFloods {
		during = 10 * time.Second
	}
	l := newDirectLab(t)
	l.client.Run(t, "ip", "route", "add", "blackhole", floodSource)
	for _, n := range l.nodes {
		// What it keeps is counted, not what it keeps for how long.
		n.space.Run(t, "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_syn_sent=300", "net.netfilter.nf_conntrack_tcp_timeout_syn_recv=300")
	}
	l.owner(t, 1)
	l.endpoints(t, "n2.1", "n3.1")
	l.sync(t)
	for _, way := range []snapshot.Forwarding{snapshot.Masquerade, snapshot.Direct} {
		l.forwardBy(t, way)
		c := l.synFlood(t, during)
		say(t, "bench-director-syn: %s: %d SYNs in %s (%.0f/s): the owner keeps %d connections; the machine was busy for %.2f s, %.2f us for each\n",
			way, c.sent, during, float64(c.sent)/during.Seconds(), c.kept, c.busy.Seconds(), c.each())
		if direct := way == snapshot.Direct; direct && c.kept > 10+c.sent/1000 || !direct && c.kept < min(c.sent/2, 1000) {
			t.Errorf("%s: of %d connections %d are on the owner", way, c.sent, c.kept)
		}
		if *measureFloods {
			l.ownerAlone(t, way, during)
		}
	}
	l.ackFlood(t, during)
	if *measureFloods {
		t.Run("other subnets", func(t *testing.T) { measureSubnetFloods(t, during) })
	}
}

// measureSubnetFloods prints what floods of SYNs cost an owner when all pods are in other subnets.
func measureSubnetFloods(t *testing.T, during time.Duration) {
	l := newRoutedLab(t)
	l.client.Run(t, "ip", "route", "add", "blackhole", floodSource)
	l.owner(t, 1)
	l.endpoints(t, "n2.1", "n3.1")
	l.open7949(t)
	for _, way := range []snapshot.Forwarding{snapshot.Masquerade, snapshot.Direct} {
		l.forwardBy(t, way)
		l.ownerAlone(t, way, during)
	}
}

// floodCost is what a flood of SYNs cost.
type floodCost struct {
	sent, kept int           // SYNs, and connections on the owner after them
	busy       time.Duration // of all processors
	memory     int64         // bytes of the kernel's that it does not give back by itself
}

// each is what a SYN took of a processor, in microseconds.
func (c floodCost) each() float64 { return float64(c.busy.Microseconds()) / float64(c.sent) }

// synFlood floods the VIP with SYNs, and has the nodes forget them. Agents renew the lease of
// the director's maps before: floods one after the other last longer than it.
func (l *directLab) synFlood(t *testing.T, during time.Duration) (c floodCost) {
	t.Helper()
	l.sync(t)
	kept, memory, busy := l.nodes[0].entries(t), kernelMemory(t), machineBusy(t)
	c.sent = l.start(t, flood{flags: 0x02, sources: 1 << 16, during: during})()
	c.kept, c.memory, c.busy = l.nodes[0].entries(t)-kept, kernelMemory(t)-memory, machineBusy(t)-busy
	for _, n := range l.nodes {
		n.space.Run(t, "conntrack", "-F")
	}
	return c
}

// ownerAlone prints what a flood of SYNs costs the owner. The switch or router drops what the
// owner passes on. What it costs to send as many to that alone is taken off.
func (l *directLab) ownerAlone(t *testing.T, way snapshot.Forwarding, during time.Duration) {
	t.Helper()
	where := ""
	if l.routed {
		where = " across subnets"
	}
	l.dropped(t, `iifname "port9" oifname "port1"`)
	sending := l.synFlood(t, during)
	l.dropped(t, `iifname "port1" oifname { "port2", "port3" }`)
	both := l.synFlood(t, during)
	l.dropped(t, `iifname "none"`)
	cost := both.each() - sending.each()
	say(t, "bench-director-owner: %s%s: %d SYNs at %.0f/s: each takes the owner %.2f us, so 100,000 a second %.0f %% of a processor; it keeps %d connections in %.1f MiB of memory\n",
		way, where, both.sent, float64(both.sent)/during.Seconds(), cost, cost*10, both.kept, float64(both.memory)/(1<<20))
}

// dropped has the switch or router drop the TCP segments over IPv4 that a rule matches, and no
// others. A router drops small packets, as a segment may have the director's header. What agents
// ask each other is larger.
func (l *directLab) dropped(t *testing.T, rule string) {
	t.Helper()
	family, what := "bridge", "ip protocol tcp"
	if l.routed {
		family, what = "inet", "ip length < 100"
	}
	l.bridge.Pipe(t, fmt.Sprintf(`table %[1]s dropped
delete table %[1]s dropped
table %[1]s dropped { chain c { type filter hook forward priority 0; %[2]s %[3]s drop; }; }`, family, rule, what), "nft", "-f", "-")
}

// kernelMemory is the memory that the kernel has for its own objects, in bytes.
func kernelMemory(t *testing.T) int64 {
	t.Helper()
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(data), "SUnreclaim:")
	kib, err := strconv.ParseInt(strings.Fields(text + " none")[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// forwardBy has the Service forwarded in one way, and waits until it is.
func (l *directLab) forwardBy(t *testing.T, way snapshot.Forwarding) {
	t.Helper()
	l.tell(t, "service default/web forwarding=%s", way)
	if way == snapshot.Direct {
		l.able(t, true, true, true)
	}
	nstest.Eventually(t, "forwarding by "+string(way), func() bool {
		l.sync(t)
		var c net.Conn
		l.client.Do(t, func() (err error) {
			c, err = net.DialTimeout("tcp", directVIPs[0].String(), directPatience)
			return err
		})
		defer c.Close()
		_, saw, err := (&talk{Conn: c}).ask()
		return err == nil && (saw == hostOf(c.LocalAddr()).String()) == (way == snapshot.Direct)
	})
}

func (l *directLab) ackFlood(t *testing.T, during time.Duration) {
	t.Helper()
	l.sync(t)
	all := l.open(t, directVIPs[0], 30)
	l.endpoints(t, "n1.1", "n1.2", "n2.1", "n2.2", "n3.1", "n3.2") // so most are not with the primaries of now
	l.sync(t)
	before, began := l.diverted(t), time.Now()
	wait := l.start(t, flood{flags: 0x10, sources: 1, during: during})
	live(t, "while another client floods", all)
	sent := wait()
	passed, most := l.diverted(t)-before, uint64(len(l.nodes))*(1000+uint64(time.Since(began).Seconds()*10000))
	say(t, "bench-director-ack: %d ACKs of no connection in %s (%.0f/s): passed on %d times more, at most %d; 30 connections of another client went on\n",
		sent, during, float64(sent)/during.Seconds(), passed, most)
	if passed > most+most/10+uint64(30*len(all)) {
		t.Errorf("%d packets were passed on %d times more, which is more than %d", sent, passed, most)
	}
}

// diverted is how many packets all nodes have passed on beyond the primary.
func (l *directLab) diverted(t *testing.T) (sum uint64) {
	t.Helper()
	for _, n := range l.nodes {
		c := n.engine.director.Counts()
		if c.Counters == nil {
			t.Fatalf("%s has no counters", n.name)
		}
		sum += c.Counters.Diverted
	}
	return sum
}
