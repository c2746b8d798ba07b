package members

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// besieged is a member at a loopback address. Another address is a node's too, and a
// third is nobody's.
type besieged struct {
	*Members
	bind, node, nobody netip.Addr
	port               uint16
}

func besiege(t *testing.T) *besieged {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(free.Addr().String()).Port()
	_ = free.Close()
	b := &besieged{bind: netip.MustParseAddr("127.0.0.1"), node: netip.MustParseAddr("127.0.0.2"), nobody: netip.MustParseAddr("127.0.0.3"), port: port}
	b.Members, err = New(Config{
		Node: "a", Boot: "boot", Bind: netip.AddrPortFrom(b.bind, port), Keys: [][]byte{key}, Log: slog.New(slog.DiscardHandler), Changed: func() {},
		Places: func() *Places {
			return NewPlaces(map[string]netip.AddrPort{"a": netip.AddrPortFrom(b.bind, port), "b": netip.AddrPortFrom(b.node, port)})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		conn, err := b.dial(b.node)
		if err == nil {
			_ = conn.Close()
			return b
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func (b *besieged) dial(from netip.Addr) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: localAddr(from)}
	return d.Dial("tcp", netip.AddrPortFrom(b.bind, b.port).String())
}

// sealed is a message with its label, encrypted as version has it; stream: for a connection.
func sealed(t *testing.T, version byte, plain []byte, stream bool) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, 12)
	size := 1 + len(nonce) + len(plain) + gcm.Overhead()
	var frame []byte
	if stream {
		frame = binary.BigEndian.AppendUint32([]byte{byteEncrypted}, uint32(size))
	}
	text := gcm.Seal(nil, nonce, plain, append(bytes.Clone(frame), label...))
	out := append([]byte{byteLabel, byte(len(label))}, label...)
	return bytes.Join([][]byte{out, frame, {version}, nonce, text}, nil)
}

// With the key, messages that memberlist cannot bear do not end the agent.
func TestAttackByMessagesThatPanic(t *testing.T) {
	b := besiege(t)
	padded := bytes.Repeat([]byte{0xff}, 16) // 255 bytes of padding in 16
	for name, m := range map[string][]byte{"empty": sealed(t, 1, nil, true), "all padding": sealed(t, 0, bytes.Repeat([]byte{16}, 16), true), "too much padding": sealed(t, 0, padded, true)} {
		conn, err := b.dial(b.node)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(m); err != nil {
			t.Error(name, err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stays", name)
		}
		_ = conn.Close()
	}
	udp, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(b.node, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(b.bind, b.port)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	for _, m := range [][]byte{sealed(t, 0, padded, false), sealed(t, 1, nil, false), {byteLabel}, {byteLabel, 8}} {
		if _, err := udp.Write(m); err != nil {
			t.Error(err)
		}
	}
	was := b.lookedAt()
	for end := time.Now().Add(patience); b.lookedAt() < was+time.Second; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the agent does not judge any more")
		}
	}
}

// lookedAt is when all was judged last.
func (b *besieged) lookedAt() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.updated
}

// Without the key, connections that are silent or slow take no memory: those of nobody
// are closed at once, and of a node some are open at a time.
func TestAttackByConnections(t *testing.T) {
	b := besiege(t)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for from, attackers := range map[netip.Addr]int{b.nobody: 150, b.node: 40} {
		before, most := heap(), uint64(0)
		head := append(append([]byte{byteLabel, byte(len(label))}, label...), byteEncrypted, 0, 0x8f, 0xff, 0xff, byteVersion) // 9 MiB
		var conns []net.Conn
		var writers sync.WaitGroup
		part := make([]byte, 64<<10)
		for range attackers {
			conn, err := b.dial(from)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
			writers.Go(func() {
				_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
				_, err := conn.Write(head)
				for range 8 << 20 / len(part) {
					if err == nil {
						_, err = conn.Write(part)
					}
				}
			})
		}
		ended := make(chan struct{})
		go func() { writers.Wait(); close(ended) }()
		for waiting := true; waiting; {
			select {
			case <-ended:
				waiting = false
			case <-time.After(20 * time.Millisecond):
			}
			most = max(most, heap())
		}
		for _, c := range conns {
			_ = c.Close()
		}
		grown := (int64(most) - int64(before)) >> 20
		t.Logf("attack: %d connections from %s: memory grows by %d MiB", attackers, from, grown)
		// What a node's connections held is bound by maxHeld, but the heap has what is not
		// collected yet as well.
		if from == b.nobody && grown > 30 {
			t.Errorf("%d connections from %s take %d MiB", attackers, from, grown)
		}
	}
}

// A connection counts until it is closed, and one that comes later is let in.
func TestConnectionsAreCounted(t *testing.T) {
	b := besiege(t)
	closed := func(c net.Conn) bool {
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		_, err := c.Read(make([]byte, 1))
		return !errors.Is(err, os.ErrDeadlineExceeded)
	}
	var conns []net.Conn
	open := 0
	for range 3 * maxPerNode {
		c, err := b.dial(b.node)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	for _, c := range conns {
		if !closed(c) {
			open++
		}
		_ = c.Close()
	}
	if open > maxPerNode {
		t.Errorf("%d connections of one node are open", open)
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		c, err := b.dial(b.node)
		if err != nil {
			t.Fatal(err)
		}
		let := !closed(c)
		_ = c.Close()
		if let {
			return
		}
		if time.Now().After(end) {
			t.Fatal("nobody is let in any more")
		}
	}
}

// inner is a transport that received something, and whose end waits until it is taken.
type inner struct {
	memberlist.Transport
	packets chan *memberlist.Packet
	streams chan net.Conn
}

func (i inner) PacketCh() <-chan *memberlist.Packet { return i.packets }
func (i inner) StreamCh() <-chan net.Conn           { return i.streams }
func (i inner) Shutdown() error {
	from := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:7947"))
	for range 3 {
		i.packets <- &memberlist.Packet{From: from, Buf: append(append([]byte{byteLabel, byte(len(label))}, label...), make([]byte, 64)...)}
		here, there := net.Pipe()
		_ = there.Close()
		i.streams <- opened{here, from.AddrPort()}
	}
	return nil
}

// What comes in while the transport ends is taken, or it would never end.
func TestShutdownTakesWhatComesIn(t *testing.T) {
	tr := guarded(inner{packets: make(chan *memberlist.Packet), streams: make(chan net.Conn)}, func(netip.Addr) bool { return true }, newMetrics(nil))
	done := make(chan error, 1)
	go func() { done <- tr.Shutdown() }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
}
