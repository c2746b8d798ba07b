package stories

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/probe"
)

// rangedAddresses waits for the Service of ranges.yaml, and returns its addresses.
func rangedAddresses(t *testing.T) []string {
	t.Helper()
	pods(t, "default", "app=ranges", 3)
	externalIP(t, "ranges")
	vips := strings.Fields(kubectl(t, "get", "service", "ranges", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}"))
	if len(vips) != 2 {
		t.Fatalf("addresses %v, want one of each family", vips)
	}
	forgotten(t, vips...)
	return vips
}

// Each port of a range, and of all ports, reaches the same port of a pod by both families.
// A port of spec.ports leads elsewhere, one outside is refused, and a range that cannot be
// read leaves the last ones in force.
func TestPortRangesReachTheSamePortOfThePods(t *testing.T) {
	electable(t)
	applyFile(t, "ranges.yaml")
	vips := rangedAddresses(t)
	at := func(scheme, vip, port string) string { return scheme + "://" + net.JoinHostPort(vip, port) }
	for _, vip := range vips {
		answersTo(t, lab.Client, at("udp", vip, "10000"), 3)
		for _, host := range []string{lab.Client, lab.Ext} {
			for port, want := range map[string]string{"10000": "10000", "10100": "10100", "10050": "5060"} {
				r := hostAsks(t, host, at("udp", vip, port), "-n=30")
				wantAll(t, r, 3)
				wantPort(t, r, want)
			}
			refused(t, host, at("udp", vip, "9999"))
			wantNone(t, hostAsks(t, host, at("http", vip, "8080")+"/", "-n=5"), "connection refused")
		}
	}
	kubectl(t, "annotate", "--overwrite", "service", "ranges", "fairlead.io/ports=20000-10000/udp")
	eventually(t, settled, "condition of the Service", func(ctx context.Context) error {
		return saysOf(ctx, "service/ranges", "fairlead.io/AddressAssigned", "True", "InvalidRequest", "ends at port 10000, before its first port 20000")
	})
	wantAll(t, hostAsks(t, lab.Client, at("udp", vips[0], "10001"), "-n=30"), 3)
	kubectl(t, "annotate", "--overwrite", "service", "ranges", "fairlead.io/ports=all")
	for _, vip := range vips {
		answersTo(t, lab.Client, at("http", vip, "8080")+"/", 3)
		wantAll(t, hostAsks(t, lab.Client, at("udp", vip, "5060"), "-n=30"), 3)
	}
	told, _ := fairlead(t, "explain", "default/ranges")
	if !strings.Contains(told, "all/tcp,all/udp,all/sctp, each to the same port") {
		t.Errorf("it is not told which ports there are:\n%s", told)
	}
	t.Log(told)
}

// refused waits until a datagram is refused. The answers before it may have used up what ICMPv6
// errors the kernel sends the host in a second (docs/proxy.md).
func refused(t *testing.T, host, target string) {
	t.Helper()
	eventually(t, settled, "refusal of "+target, func(context.Context) error {
		if r := hostAsks(t, host, target, "-n=1"); r.Reasons["connection refused"] != 1 {
			return fmt.Errorf("%s asked and got %d answers, failures %v", host, r.Requests-r.Failures, r.Reasons)
		}
		return nil
	})
}

// media are flows of one socket to many ports, as of a media relay.
type media struct {
	net.PacketConn
	vip   netip.Addr
	ports []uint16
	pod   map[uint16]string // who answered last
}

// talk sends to each port until it has answered. It returns how many ports were answered by
// another pod than before, and how many answers did not come from the port that was asked.
func (m *media) talk(t *testing.T) (moved, astray int) {
	t.Helper()
	waits := map[uint16]bool{}
	for _, p := range m.ports {
		waits[p] = true
	}
	for deadline := time.Now().Add(settled); len(waits) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d ports do not answer", len(waits), len(m.ports))
		}
		for sent := m.send(t, waits); sent > 0; sent-- {
			port, a, err := m.hear()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break // an answer was lost, or a pod is gone
			}
			if err != nil {
				t.Fatal(err)
			}
			if a.Port != fmt.Sprint(port) {
				astray++
			}
			if was := m.pod[port]; was != "" && was != a.Pod {
				moved++
			}
			m.pod[port] = a.Pod
			delete(waits, port)
		}
	}
	return moved, astray
}

// send sends to some of the ports, as many as a socket has room for the answers of, and
// returns how many.
func (m *media) send(t *testing.T, ports map[uint16]bool) (sent int) {
	t.Helper()
	for p := range ports {
		if _, err := m.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(m.vip, p))); err != nil {
			t.Fatal(err)
		}
		if sent++; sent == 200 {
			break
		}
	}
	return sent
}

// hear returns the next answer, and the port that it comes from.
func (m *media) hear() (port uint16, a probe.Answer, err error) {
	if err = m.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return 0, a, err
	}
	buffer := make([]byte, 2048)
	n, from, err := m.ReadFrom(buffer)
	if err != nil {
		return 0, a, err
	}
	err = json.Unmarshal(buffer[:n], &a)
	return netip.MustParseAddrPort(from.String()).Port(), a, err
}

// 10,000 flows over a range of ports go to the same port of a pod each, and stay with it
// while another pod is replaced. Those of that pod go to others.
func TestManyFlowsOverARangeOfPorts(t *testing.T) {
	l := cluster(t)
	if os.Getenv("FAIRLEAD_E2E_ALL") == "" {
		t.Skip("make e2e WHAT=ports runs it")
	}
	electable(t)
	apply(t, strings.Replace(manifests(t, "ranges.yaml"), "5060,10000-10100", "5060,10000-20000", 1))
	vips := rangedAddresses(t)
	m := &media{vip: netip.MustParseAddr(vips[0]), pod: map[uint16]string{}}
	for p := uint16(10000); p <= 20000; p++ {
		if p != 10050 {
			m.ports = append(m.ports, p)
		}
	}
	if err := l.AtClient(func() (err error) {
		m.PacketConn, err = net.ListenPacket("udp", ":0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	began := time.Now()
	_, astray := m.talk(t)
	t.Logf("%d flows answered in %s", len(m.ports), time.Since(began).Round(time.Millisecond))
	if moved, more := m.talk(t); moved+more+astray > 0 {
		t.Errorf("%d flows changed their pod and %d went astray although nothing happened", moved, astray+more)
	}
	gone := m.pod[10000]
	of, byPod := 0, map[string]int{}
	for _, pod := range m.pod {
		byPod[pod]++
		if pod == gone {
			of++
		}
	}
	kubectl(t, "delete", "pod", gone, "--wait=true")
	pods(t, "default", "app=ranges", 3)
	moved, astray := m.talk(t)
	t.Logf("of %v flows those of %s moved: %d; %d went astray", byPod, gone, moved, astray)
	if moved != of || astray > 0 {
		t.Errorf("%d flows were with %s, %d moved, %d went astray", of, gone, moved, astray)
	}
	if moved, astray := m.talk(t); moved+astray > 0 {
		t.Errorf("afterwards %d flows changed their pod and %d went astray", moved, astray)
	}
}

// Two addresses of one family of one Service are announced by two nodes. When one node
// loses power, the other address goes on as if nothing had happened.
func TestTwoAddressesOfOneServiceAreAtTwoNodes(t *testing.T) {
	if cluster(t); os.Getenv("FAIRLEAD_E2E_ALL") == "" {
		t.Skip("make e2e WHAT=ports runs it")
	}
	electable(t)
	applyFile(t, "apart.yaml")
	pods(t, "default", "app=apart", 3)
	externalIP(t, "apart")
	vips := strings.Fields(kubectl(t, "get", "service", "apart", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}"))
	if strings.Join(vips, " ") != "198.18.0.226 198.18.0.227" {
		t.Fatalf("addresses %v", vips)
	}
	forgotten(t, vips...)
	for _, vip := range vips {
		answersTo(t, lab.Client, demo.URL(vip, 80), 3)
	}
	first, second := announcer(t, vips[0]), announcer(t, vips[1])
	if first == second {
		t.Fatalf("%s announces both", first)
	}
	t.Logf("%s is at %s, %s at %s", vips[0], first, vips[1], second)
	told, _ := fairlead(t, "explain", "default/apart")
	t.Log(told)
	settledElsewhere(t, first)
	paths := everyPath(t, demo.Service{ExternalIPs: vips}, 3*time.Second)
	powerOnAtTheEnd(t, first)
	powerOff(t, first)
	eventually(t, settled, vips[0]+" at another node", func(ctx context.Context) error {
		return servedBy(ctx, vips[0], func(at string) bool { return at != first && at != second })
	})
	reports := paths()
	for i, r := range reports {
		t.Logf("%s: of %d requests %d failed %v, the longest time without an answer was %.0f ms", r.Target, r.Requests, r.Failures, r.Reasons, r.Gap)
		if limit := 5000.0; r.Gap > limit {
			t.Errorf("address %d: no answer for %.0f ms", i, r.Gap)
		}
	}
	// A request to the pod that went with its node is lost, whatever the address is.
	eventually(t, settled, vips[1]+" where it was", func(ctx context.Context) error {
		return servedBy(ctx, vips[1], func(at string) bool { return at == second })
	})
}
