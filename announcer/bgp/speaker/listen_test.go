package speaker_test

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/internal/test/routertest"
)

// dialling is a router that connects to the node: by IPv4 with a password, by IPv6
// with GTSM.
func dialling() routertest.Config {
	c := plain()
	c.Neighbors[0].Dial, c.Neighbors[0].Password = true, "first"
	c.Neighbors[1].Dial, c.Neighbors[1].Hops = true, 1
	return c
}

// waiting are the two sessions that it opens.
func waiting(password string) []bgp.Peer {
	four, six := peer("four", router4, "198.19.0.1/32", "fd98:19::1/128"), peer("six", router6, "198.19.0.2/32", "fd98:19::2/128")
	four.Passive, four.Password = true, password
	six.Passive, six.TTLSecurity = true, 1
	return []bgp.Peer{four, six}
}

// TestPassive: routers that connect to the node get the sessions that wait for
// them, each its own, with passwords and GTSM; the paths are those of a session
// that the node opened.
func TestPassive(t *testing.T) {
	everyRouter(t, dialling(), func(t *testing.T, w world) {
		p := start(t, w.node)
		p.sync(waiting("first")...)
		within(t, "both sessions are established", p.established(2))
		there := func() bool {
			got := routes(t, w.router)
			return strings.Count(got, "via "+node4) == 2 && strings.Count(got, "via "+node6) == 2
		}
		within(t, "four routes in the kernel", there)
		p.sync(waiting("second")...)
		within(t, "a wrong password was refused", func() bool { return refused(t, w.node) })
		if st := p.status(); st[0].Established || !st[1].Established || !strings.Contains(st[0].LastError, "waits for the router") {
			t.Errorf("with a wrong password: %+v", st)
		}
		p.sync(waiting("first")...)
		within(t, "both sessions are established again", p.established(2))
		within(t, "four routes again", there)
		if st := p.status()[1]; st.Flaps != 0 {
			t.Errorf("the other session flapped: %+v", st)
		}
		p.kill() // and comes back, as after a crash
		again := start(t, w.node)
		again.sync(waiting("first")...)
		within(t, "both sessions are established after a crash", again.established(2))
		within(t, "four routes after a crash", there)
	})
}

// refused reports whether the kernel has dropped a packet for its password.
func refused(t *testing.T, ns nstest.Space) bool {
	t.Helper()
	fields := strings.Fields(ns.Run(t, "nstat", "-asz", "TcpExtTCPMD5Failure"))
	i := slices.Index(fields, "TcpExtTCPMD5Failure")
	return i >= 0 && i+1 < len(fields) && fields[i+1] != "0"
}

// TestStrangers: nobody but the routers gets a word out of the port, and it is
// closed when no peer is passive.
func TestStrangers(t *testing.T) {
	t.Parallel()
	nodeSpace, routerSpace := wired(t)
	dial := func() (conn net.Conn, err error) {
		routerSpace.Do(t, func() error {
			conn, err = net.DialTimeout("tcp", node4+":1179", 10*time.Second)
			return nil
		})
		return conn, err
	}
	p := start(t, nodeSpace)
	other := peer("other", "198.18.7.77")
	other.Passive, other.Port = true, 1179
	p.sync(other)
	conn, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if got, err := io.ReadAll(conn); len(got) > 0 || err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("a stranger read %d bytes, %v", len(got), err)
	}
	_ = conn.Close()
	p.sync()
	if conn, err := dial(); err == nil {
		_ = conn.Close()
		t.Error("the port is open though nobody needs it")
	}
}

// TestPortTaken: while another speaker on the node has the port, the passive
// session says so and waits; one that the node opens does not care.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	nodeSpace, routerSpace := wired(t)
	routertest.Routers["BIRD"](t, routerSpace, plain())
	routertest.StartFRR(t, nodeSpace, map[string]string{"bgpd": fmt.Sprintf("router bgp %d\n bgp router-id %s\nexit\n", nodeASN, node4)})
	p := start(t, nodeSpace)
	passive := peer("passive", "198.18.7.77")
	passive.Passive = true
	p.sync(passive, peer("four", router4, "198.19.0.1/32"))
	within(t, "the dialled session is established", p.established(1))
	if st := p.status()[1]; !strings.Contains(st.LastError, "another program") {
		t.Errorf("the passive session says %q", st.LastError)
	}
}
