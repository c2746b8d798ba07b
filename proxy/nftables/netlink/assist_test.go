package netlink

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/assist"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
)

// files are what is transferred: 1 MB, and as little as shows the same.
var files = map[string][]byte{"large": bytes.Repeat([]byte("fairlead\n"), 1<<20/9), "small": bytes.Repeat([]byte("fairlead\n"), 200)}

// serveTFTP serves files on port 69. The data of each transfer comes from a port of its own
// (RFC 1350 section 4).
func serveTFTP(t *testing.T, s space) {
	t.Helper()
	var requests net.PacketConn
	s.Do(t, func() (err error) {
		requests, err = net.ListenPacket("udp", ":69")
		return err
	})
	t.Cleanup(func() { requests.Close() })
	go func() {
		b := make([]byte, 1500)
		for {
			n, client, err := requests.ReadFrom(b)
			if err != nil || n < 7 {
				return
			}
			file := files[string(b[2:7])]
			var c net.PacketConn
			if s.In(func() (err error) { c, err = net.ListenPacket("udp", ":0"); return err }) != nil {
				return
			}
			go sendTFTP(c, client, file)
		}
	}()
}

func sendTFTP(c net.PacketConn, client net.Addr, file []byte) {
	defer c.Close()
	ack := make([]byte, 64)
	for block := 1; ; block++ {
		data := file[min(len(file), (block-1)*512):min(len(file), block*512)]
		packet := append(binary.BigEndian.AppendUint16([]byte{0, 3}, uint16(block)), data...)
		for {
			_, _ = c.WriteTo(packet, client)
			_ = c.SetReadDeadline(time.Now().Add(time.Second)) // then it is sent again
			if _, from, err := c.ReadFrom(ack); err == nil && from.String() == client.String() && binary.BigEndian.Uint16(ack[2:]) == uint16(block) {
				break
			} else if err != nil && !errors.Is(err, net.ErrClosed) && block == 1 {
				return // nobody gets the data
			}
		}
		if len(data) < 512 {
			return
		}
	}
}

// getTFTP reads a file. What comes from another address than the server's is ignored, as
// firmware does.
func getTFTP(s space, server netip.AddrPort, name string, patience time.Duration) ([]byte, error) {
	var c net.PacketConn
	if err := s.In(func() (err error) { c, err = net.ListenPacket("udp", ":0"); return err }); err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.WriteTo([]byte("\x00\x01"+name+"\x00octet\x00"), net.UDPAddrFromAddrPort(server)); err != nil {
		return nil, err
	}
	var out []byte
	b := make([]byte, 600)
	for block := uint16(1); ; {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return out, err
		}
		at := from.(*net.UDPAddr).AddrPort()
		if at.Addr().Unmap() != server.Addr() || n < 4 {
			continue
		}
		got := binary.BigEndian.Uint16(b[2:])
		if _, err := c.WriteTo(append([]byte{0, 4}, b[2:4]...), from); err != nil {
			return out, err
		}
		if got != block {
			continue
		}
		out = append(out, b[4:n]...)
		if block++; n < 4+512 {
			return out, nil
		}
	}
}

// serveFTP serves files on port 21, passively: it tells the client where to fetch it.
func serveFTP(t *testing.T, s space, at netip.Addr) {
	t.Helper()
	var l net.Listener
	s.Do(t, func() (err error) {
		l, err = net.Listen("tcp", ":21")
		return err
	})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var data net.Listener
				if s.In(func() (err error) { data, err = net.Listen("tcp", ":0"); return err }) != nil {
					return
				}
				defer data.Close()
				fmt.Fprint(c, "220 Ready.\r\n") // before it, the kernel does not know where lines begin
				port := data.Addr().(*net.TCPAddr).Port
				for lines := bufio.NewScanner(c); lines.Scan(); {
					switch lines.Text() {
					case "PASV":
						fmt.Fprintf(c, "227 Entering Passive Mode (%s,%d,%d).\r\n", strings.ReplaceAll(at.String(), ".", ","), port>>8, port&255)
					case "EPSV":
						fmt.Fprintf(c, "229 Entering Extended Passive Mode (|||%d|)\r\n", port)
					default:
						to, err := data.Accept()
						if err != nil {
							return
						}
						_, _ = to.Write(files[strings.TrimPrefix(lines.Text(), "RETR ")])
						to.Close()
					}
				}
			}()
		}
	}()
}

// getFTP reads a file.
func getFTP(s space, server netip.AddrPort, name string, patience time.Duration) ([]byte, error) {
	c, err := s.dial("tcp", server, netip.AddrPort{}, patience)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	command := "EPSV"
	if server.Addr().Is4() {
		command = "PASV"
	}
	fmt.Fprintf(c, "%s\r\n", command)
	line, lines := "", bufio.NewReader(c)
	for range 2 { // the greeting, and the answer
		if line, err = lines.ReadString('\n'); err != nil {
			return nil, err
		}
	}
	_, inside, _ := strings.Cut(line, "(")
	inside, _, _ = strings.Cut(inside, ")")
	at := netip.AddrPort{}
	if n := strings.Split(inside, ","); len(n) == 6 {
		high, _ := strconv.Atoi(n[4])
		low, _ := strconv.Atoi(n[5])
		if at, err = netip.ParseAddrPort(fmt.Sprintf("%s:%d", strings.Join(n[:4], "."), high<<8+low)); err != nil {
			return nil, err
		}
	} else {
		port, _ := strconv.Atoi(strings.Trim(inside, "|"))
		at = netip.AddrPortFrom(server.Addr(), uint16(port))
	}
	if at.Addr() != server.Addr() {
		return nil, fmt.Errorf("the server said %q, which is not at %s", strings.TrimSpace(line), server.Addr())
	}
	fmt.Fprintf(c, "RETR %s\r\n", name)
	data, err := s.dial("tcp", at, netip.AddrPort{}, patience)
	if err != nil {
		return nil, fmt.Errorf("the server said %q: %w", strings.TrimSpace(line), err)
	}
	defer data.Close()
	_ = data.SetDeadline(time.Now().Add(patience))
	return io.ReadAll(data)
}

// TFTP and FTP work through a VIP and a node port, for clients outside and for pods, with
// policy Cluster and with Local, over both families, where the Service asks for the helper.
func TestHelpers(t *testing.T) {
	l := newLab(t)
	kernel := assist.New(int(l.node.Handle))
	serveTFTP(t, l.podA)
	for _, family := range bothFamilies {
		a := addressesOf(family)
		if family == snapshot.IPv4 {
			serveFTP(t, l.podA, a.podA)
		}
		for h, get := range map[snapshot.Helper]func(space, netip.AddrPort, string, time.Duration) ([]byte, error){snapshot.TFTP: getTFTP, snapshot.FTP: getFTP} {
			for _, kind := range []proxy.Kind{proxy.VIP, proxy.NodePort} {
				for _, local := range []bool{false, true} {
					f := a.front(kind, map[snapshot.Helper]string{snapshot.TFTP: "udp", snapshot.FTP: "tcp"}[h])
					server := map[snapshot.Helper]uint16{snapshot.TFTP: 69, snapshot.FTP: 21}[h]
					if kind == proxy.VIP {
						f.Port = server
					}
					f.Cluster, f.Empty = []netip.AddrPort{netip.AddrPortFrom(a.podA, server)}, proxy.Forward
					if local {
						f.LocalOnly, f.Local = true, f.Cluster
					}
					sync(t, l.engine, a.table(f))
					wants := map[snapshot.Helper][]assist.At{h: {{Addr: f.Addr, Protocol: f.Protocol, Port: f.Port}}}
					if failed := kernel.Sync(wants); len(failed) > 0 {
						t.Fatal(failed)
					}
					for name, from := range map[string]space{"client": l.client, "pod": l.podB, "remote": l.remote} {
						times, file := 1, "small"
						if kind == proxy.VIP && name == "client" && !local && family == snapshot.IPv4 {
							times, file = 10, "large"
						}
						for range times {
							if got, err := get(from, a.address(f), file, patient); err != nil || !bytes.Equal(got, files[file]) {
								t.Errorf("%s over %s by %s, local=%t, from %s: %d bytes, %v", h, family, kind, local, name, len(got), err)
							}
						}
					}
				}
			}
		}
	}
	if err := kernel.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if out := l.node.Run(t, "nft", "list", "tables"); strings.Contains(out, "helper") {
		t.Errorf("left: %s", out)
	}
	// Without the helper nothing comes: the data have another source.
	a := addressesOf(snapshot.IPv4)
	f := a.front(proxy.VIP, "udp")
	f.Port, f.Cluster, f.Empty = 69, []netip.AddrPort{netip.AddrPortFrom(a.podA, 69)}, proxy.Forward
	sync(t, l.engine, a.table(f))
	if got, err := getTFTP(l.client, a.address(f), "small", 2*brief); err == nil {
		t.Errorf("without a helper: %d bytes", len(got))
	}
}

// A helper that the kernel lacks is told, and keeps no other from working. What is there
// already is not written again, and what others change is repaired.
func TestHelperTables(t *testing.T) {
	node := nstest.New(t, "node")
	k := assist.New(int(node.Handle))
	at := assist.At{Addr: netip.MustParseAddr("198.18.0.200"), Protocol: snapshot.UDP, Port: 69}
	wants := map[snapshot.Helper][]assist.At{snapshot.TFTP: {at, {Protocol: snapshot.UDP, Port: 30069}, at}}
	list := func() string { return node.Run(t, "nft", "-a", "list", "ruleset") }
	if failed := k.Sync(wants); len(failed) > 0 {
		t.Fatal(failed)
	}
	was := list()
	for _, want := range []string{`ct helper set "tftp"`, "198.18.0.200", "fib daddr type local", "table inet fairlead-helper-tftp"} {
		if !strings.Contains(was, want) {
			t.Errorf("%q is missing in %s", want, was)
		}
	}
	if strings.Contains(was, "helper-ftp") {
		t.Errorf("a helper that nobody wants: %s", was)
	}
	if failed := k.Sync(wants); len(failed) > 0 || list() != was {
		t.Errorf("written again: %v\n%s", failed, list())
	}
	node.Run(t, "nft", "flush", "chain", "inet", "fairlead-helper-tftp", "output")
	if failed := k.Sync(wants); len(failed) > 0 || strings.Count(list(), "ct helper set") != 4 {
		t.Errorf("not repaired: %v\n%s", failed, list())
	}
	failed := k.Sync(map[snapshot.Helper][]assist.At{snapshot.TFTP: {{Protocol: snapshot.UDP, Port: 69}}, snapshot.FTP: nil})
	if len(failed) > 0 || !strings.Contains(list(), "tftp") || strings.Contains(list(), "198.18.0.200") {
		t.Errorf("another place: %v\n%s", failed, list())
	}
	if err := k.Cleanup(); err != nil || strings.Contains(list(), "helper") {
		t.Errorf("left: %v\n%s", err, list())
	}
}
