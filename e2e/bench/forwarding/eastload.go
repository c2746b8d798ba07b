package forwarding

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// The ports of the pods that are reached.
const (
	echoPort = 8082 // sends back what it gets
	sinkPort = 8083 // takes everything
	dnsPort  = 8053 // UDP, answers each datagram
)

// eastLoad is a kind of load. It is measured in the namespace that the caller is
// in.
type eastLoad struct {
	name    string
	port    uint16 // of the Service
	target  uint16 // of the pod
	measure func(to netip.AddrPort, length time.Duration) (work, error)
}

var eastLoads = []eastLoad{
	{"TCP connections", 80, acceptPort, connections},
	{"requests on a kept connection", 81, echoPort, requests},
	{"throughput", 82, sinkPort, throughput},
	{"UDP requests", 53, dnsPort, lookups},
}

// metered calls one again and again for length. In laps of 5 ms it counts what one
// did, which one returns, and the processor time of both sides: they are this
// process.
func metered(length time.Duration, one func() (float64, error)) (w work, err error) {
	const lapLength = 5 * time.Millisecond
	var now lap
	cpu, err := cpuTime()
	if err != nil {
		return w, err
	}
	for began := time.Now(); length > 0; {
		done, err := one()
		if err != nil {
			return w, err
		}
		now.done += done
		if now.length = time.Since(began); now.length < lapLength {
			continue
		}
		used, err := cpuTime()
		if err != nil {
			return w, err
		}
		now.cpu = used - cpu
		w.laps = append(w.laps, now)
		length -= now.length
		began, cpu, now = began.Add(now.length), used, lap{}
	}
	return w, nil
}

func cpuTime() (time.Duration, error) {
	var u unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// oneByOne is metered for what is one thing each time, and notes how long each took.
func oneByOne(length time.Duration, one func() error) (w work, err error) {
	var took []time.Duration
	w, err = metered(length, func() (float64, error) {
		began := time.Now()
		err := one()
		if errors.Is(err, unix.EINTR) {
			return 0, nil // the runtime looks after its threads
		}
		took = append(took, time.Since(began))
		return 1, err
	})
	w.took = took
	return w, err
}

// connections makes connections.
func connections(to netip.AddrPort, length time.Duration) (work, error) {
	return oneByOne(length, func() error { return accepts(to, 5*time.Second) })
}

// lookups asks as a resolver does: a socket for each question.
func lookups(to netip.AddrPort, length time.Duration) (work, error) {
	return oneByOne(length, func() error { return lookup(to) })
}

func lookup(to netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		return err
	}
	return ask(fd, make([]byte, 64))
}

// ask sends b and waits for as much.
func ask(fd int, b []byte) error {
	if _, err := again(func() (int, error) { return unix.Write(fd, b) }); err != nil {
		return err
	}
	n, err := again(func() (int, error) { return unix.Read(fd, b) })
	if err == nil && n != len(b) {
		err = fmt.Errorf("%d bytes of %d", n, len(b))
	}
	return err
}

// again repeats what a signal of the runtime interrupts.
func again(f func() (int, error)) (n int, err error) {
	for {
		if n, err = f(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// requests asks on one connection, one question after the other.
func requests(to netip.AddrPort, length time.Duration) (w work, err error) {
	err = connectAgain(to, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return err
		}
		b := make([]byte, 64)
		w, err = oneByOne(length, func() error { return ask(fd, b) })
		return err
	})
	return w, err
}

// connectAgain is connect, until no signal comes between.
func connectAgain(to netip.AddrPort, use func(fd int) error) error {
	_, err := again(func() (int, error) { return 0, connect(to, 5*time.Second, use) })
	return err
}

// buffer is what a connection keeps at either end, in bytes. If the kernel finds the
// size itself, it is another one in each turn.
const buffer = 1 << 20

// throughput sends on one connection as much as it takes.
func throughput(to netip.AddrPort, length time.Duration) (w work, err error) {
	err = connectAgain(to, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, buffer); err != nil {
			return err
		}
		b := make([]byte, 256<<10)
		w, err = metered(length, func() (float64, error) {
			n, err := again(func() (int, error) { return unix.Write(fd, b) })
			return float64(n), err
		})
		return err
	})
	return w, err
}

// serveEach takes connections of a port and has each served on a thread.
func serveEach(s space, port int, serve func(fd int)) (*server, error) {
	var fd int
	err := s.do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Port: port}), unix.Listen(fd, 128))
	})
	if err != nil {
		return nil, fmt.Errorf("serve port %d: %w", port, err)
	}
	out := &server{fd: fd}
	out.done.Go(func() {
		for {
			conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
			if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EBADF) {
				return // stop
			}
			if err != nil {
				continue
			}
			out.done.Go(func() {
				defer func() { _ = unix.Close(conn) }()
				serve(conn)
			})
		}
	})
	return out, nil
}

// echo sends back what it gets.
func echo(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	b := make([]byte, 64)
	for {
		n, err := again(func() (int, error) { return unix.Read(fd, b) })
		if err != nil || n == 0 {
			return
		}
		if _, err := unix.Write(fd, b[:n]); err != nil {
			return
		}
	}
}

func sink(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer)
	b := make([]byte, 256<<10)
	for {
		if n, err := again(func() (int, error) { return unix.Read(fd, b) }); err != nil || n == 0 {
			return
		}
	}
}

// serveDatagrams answers each datagram with itself.
func serveDatagrams(s space, port int) (*server, error) {
	var fd int
	err := s.do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000}),
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1), unix.Bind(fd, &unix.SockaddrInet4{Port: port}))
	})
	if err != nil {
		return nil, fmt.Errorf("serve port %d: %w", port, err)
	}
	out := &server{fd: fd, quit: make(chan struct{})}
	for range 2 {
		out.done.Go(func() { out.answerDatagrams() })
	}
	return out, nil
}

// answerDatagrams answers from the address that was asked.
func (s *server) answerDatagrams() {
	b, control := make([]byte, 512), make([]byte, 128)
	for {
		n, nc, _, from, err := unix.Recvmsg(s.fd, b, control, 0)
		select {
		case <-s.quit:
			return
		default:
		}
		if err != nil {
			continue // nobody asked
		}
		_ = unix.Sendmsg(s.fd, b[:n], source(control[:nc]), from, 0) // who asked may be gone
	}
}

// source is the control message to answer from where a datagram came to.
func source(control []byte) []byte {
	all, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(all) == 0 || len(all[0].Data) < unix.SizeofInet4Pktinfo {
		return nil
	}
	return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte(all[0].Data[4:8])})
}
