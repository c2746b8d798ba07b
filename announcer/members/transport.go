package members

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// What the agents of other nodes may take of this one at a time. A connection of
// theirs lasts a few milliseconds.
const (
	maxConns   = 128      // of all
	maxPerNode = 8        // of one address
	maxHeld    = 16 << 20 // bytes that were read from all of them, and are kept
)

// maxFrame is the longest message on a connection, encrypted.
const maxFrame = maxExchange + 2<<20

// transport is a memberlist.Transport that listens to nodes alone, and that lets
// nothing through that memberlist v0.7.0 cannot bear. memberlist reads 20 MiB of
// everybody before it looks for the key, and panics at an authenticated message that is
// empty or padded wrongly.
type transport struct {
	memberlist.Transport
	allows  func(netip.Addr) bool
	metrics *metrics
	packets chan *memberlist.Packet
	streams chan net.Conn
	down    chan struct{} // closed: what comes in is thrown away
	ended   chan struct{} // closed: nothing comes in any more
	pumps   sync.WaitGroup

	mu    sync.Mutex
	conns map[netip.Addr]int // open, by who opened them
	open  int
	held  int
}

// guarded wraps inner. allows must be safe for concurrent use.
func guarded(inner memberlist.Transport, allows func(netip.Addr) bool, m *metrics) *transport {
	t := &transport{
		Transport: inner, allows: allows, metrics: m, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn),
		down: make(chan struct{}), ended: make(chan struct{}), conns: map[netip.Addr]int{},
	}
	t.pumps.Go(t.pumpPackets)
	t.pumps.Go(t.pumpStreams)
	return t
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown implements memberlist.Transport. The inner transport waits until what it
// received is taken, so the pumps end after it.
func (t *transport) Shutdown() error {
	close(t.down)
	err := t.Transport.Shutdown()
	close(t.ended)
	t.pumps.Wait()
	return err
}

// DialTimeout implements memberlist.Transport. What comes back is looked at as well.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	conn, err := t.Transport.DialTimeout(addr, timeout)
	if err != nil {
		return nil, err
	}
	return &screened{Conn: conn, t: t}, nil
}

func (t *transport) pumpPackets() {
	for {
		select {
		case <-t.ended:
			return
		case p := <-t.Transport.PacketCh():
			switch {
			case !t.allows(addrFrom(p.From)):
				t.metrics.refused.WithLabelValues(refusedSource).Inc()
				continue
			case !screenPacket(p.Buf):
				t.metrics.refused.WithLabelValues(refusedGarbage).Inc()
				continue
			}
			select {
			case <-t.down:
			case t.packets <- p:
			}
		}
	}
}

func (t *transport) pumpStreams() {
	for {
		select {
		case <-t.ended:
			return
		case conn := <-t.Transport.StreamCh():
			one := t.admit(conn)
			if one == nil {
				_ = conn.Close()
				continue
			}
			select {
			case <-t.down:
				_ = one.Close()
			case t.streams <- one:
			}
		}
	}
}

// admit returns what memberlist may read of conn; nil if that is nothing.
func (t *transport) admit(conn net.Conn) *screened {
	from := addrFrom(conn.RemoteAddr())
	if !t.allows(from) {
		t.metrics.refused.WithLabelValues(refusedSource).Inc()
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open >= maxConns || t.conns[from] >= maxPerNode {
		t.metrics.refused.WithLabelValues(refusedExcess).Inc()
		return nil
	}
	t.open++
	t.conns[from]++
	return &screened{Conn: conn, t: t, from: from}
}

// hold counts n bytes more that are kept, and reports whether there was room.
func (t *transport) hold(n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held += n
	return t.held <= maxHeld
}

// screened is a connection whose first bytes are looked at.
type screened struct {
	net.Conn
	t    *transport
	from netip.Addr // who opened it; invalid: this node

	head   []byte // read, but not by memberlist yet
	looked bool
	read   int
	once   sync.Once
}

// Read implements net.Conn.
func (s *screened) Read(b []byte) (int, error) {
	if !s.looked {
		head, err := readHead(s.Conn)
		if err != nil {
			if errors.Is(err, errGarbage) {
				s.t.metrics.refused.WithLabelValues(refusedGarbage).Inc()
			}
			return 0, err
		}
		s.head, s.looked = head, true
	}
	if len(s.head) > 0 {
		n := copy(b, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	n, err := s.Conn.Read(b)
	// Without the key, 150 connections took 495 MB of an agent within 10 s.
	if s.read += n; s.read > maxFrame || !s.t.hold(n) {
		s.t.metrics.refused.WithLabelValues(refusedSize).Inc()
		return 0, errors.New("more than may be read at a time")
	}
	return n, err
}

// Close implements net.Conn.
func (s *screened) Close() error {
	s.once.Do(func() {
		s.t.mu.Lock()
		defer s.t.mu.Unlock()
		s.t.held -= s.read
		if !s.from.IsValid() {
			return
		}
		s.t.open--
		if s.t.conns[s.from]--; s.t.conns[s.from] == 0 {
			delete(s.t.conns, s.from)
		}
	})
	return s.Conn.Close()
}

// The first bytes of messages, as memberlist v0.7.0 has them.
const (
	byteLabel     = 244 // before a label: its length, then the label
	byteEncrypted = 10  // before an encrypted message on a connection: its length, 4 bytes
	byteVersion   = 1   // of the encryption: nonce, text, tag. 0 has padding, which is not checked
	emptyMessage  = 1 + 12 + 16
)

var errGarbage = errors.New("no message of an agent")

// readHead reads the first bytes of a connection, and refuses what is not an encrypted
// message or an empty one.
func readHead(r io.Reader) ([]byte, error) {
	head := make([]byte, 1, 2+len(label)+6)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err // nothing was said: that is how a kernel is asked
	}
	more := func(n int) error {
		from := len(head)
		head = append(head, make([]byte, n)...)
		_, err := io.ReadFull(r, head[from:])
		return err
	}
	if head[0] == byteLabel {
		if err := more(2 + len(label)); err != nil {
			return nil, err
		}
		if int(head[1]) != len(label) || string(head[2:2+len(label)]) != label {
			return nil, errGarbage
		}
	}
	at := len(head) - 1
	if head[at] != byteEncrypted {
		return nil, errors.New("state is not encrypted") // logger counts that
	}
	if err := more(5); err != nil {
		return nil, err
	}
	size := uint(head[at+1])<<24 | uint(head[at+2])<<16 | uint(head[at+3])<<8 | uint(head[at+4])
	if size <= emptyMessage || size > maxFrame || head[at+5] != byteVersion {
		return nil, fmt.Errorf("%w: %d bytes with encryption %d", errGarbage, size, head[at+5])
	}
	return head, nil
}

// screenPacket reports whether memberlist can bear a packet.
func screenPacket(b []byte) bool {
	head := 2 + len(label)
	return len(b) > head+emptyMessage && b[0] == byteLabel && int(b[1]) == len(label) && string(b[2:head]) == label && b[head] == byteVersion
}

func addrFrom(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// network is UDP and TCP at one address of the node. It connects from that address:
// the others listen to the addresses that they know of nodes.
type network struct {
	*memberlist.NetTransport
	from netip.Addr
}

func listen(at netip.AddrPort, to *log.Logger) (memberlist.Transport, error) {
	inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{at.Addr().String()}, BindPort: int(at.Port()), Logger: to})
	if err != nil {
		return nil, err
	}
	return network{inner, at.Addr()}, nil
}

// DialTimeout implements memberlist.Transport.
func (n network) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return (&net.Dialer{Timeout: timeout, LocalAddr: localAddr(n.from)}).Dial("tcp", addr)
}

// localAddr is the local end of a connection from an address; nil for any.
func localAddr(from netip.Addr) net.Addr {
	if !from.IsValid() || from.IsUnspecified() {
		return nil
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
}
