package agent

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/nodeport"
	"github.com/fairlead/fairlead/nodeport/health"
	"github.com/fairlead/fairlead/nodeport/socket"
)

// A health check port that somebody else has, and a process on a node port, are
// found, reported and forgotten when they go. The health check port then answers.
func TestPortProblems(t *testing.T) {
	node := nstest.New(t, "node")
	log := slog.New(slog.DiscardHandler)
	addr := netip.MustParseAddr("198.18.0.1")
	node.Run(t, "ip", "addr", "add", "198.18.0.1/32", "dev", "lo")
	changes := 0
	p := &ports{
		index: nodeport.NewIndex("a"), sockets: socket.Read, changed: func() { changes++ }, log: log,
		loop: reconcile.New("node ports", log), servers: health.NewServers(&health.Proxy{}, log),
	}
	defer p.servers.Close()
	p.Follow(&snapshot.Snapshot{Services: []*snapshot.Service{{
		Ref: snapshot.Ref{Namespace: "default", Name: "web"}, Type: snapshot.LoadBalancer, ExternalTrafficPolicy: snapshot.PolicyLocal,
		HealthCheckNodePort: 30500, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")},
		Ports: []snapshot.Port{{Protocol: snapshot.TCP, Port: 80, NodePort: 30080}},
	}}}, []netip.Addr{addr}, nil)
	step := func(want ...string) {
		t.Helper()
		p.occupiedAt = time.Time{}
		node.Do(t, func() error { return p.step(context.Background()) })
		var got []string
		for _, f := range p.Problems() {
			got = append(got, string(f.Reason))
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	listen := func(at string) net.Listener {
		t.Helper()
		var l net.Listener
		node.Do(t, func() (err error) {
			l, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp4", at)
			return err
		})
		return l
	}
	squatter, process := listen("198.18.0.1:30500"), listen("0.0.0.0:30080")
	defer process.Close()
	step("FailedToStartServiceHealthcheck", "NodePortClaimed")
	step("FailedToStartServiceHealthcheck", "NodePortClaimed")
	if changes != 1 {
		t.Errorf("told %d times, want once", changes)
	}
	squatter.Close()
	step("NodePortClaimed")
	process.Close()
	step()
	node.Do(t, func() error {
		c, err := (&net.Dialer{}).DialContext(context.Background(), "tcp4", "198.18.0.1:30500")
		if err == nil {
			err = c.Close()
		}
		return err
	})
}
