package top_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/top"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/traffic"
)

var (
	at  = time.Unix(1_000_000, 0)
	vip = netip.MustParseAddr("192.0.2.200")
)

func state() *cluster.State {
	web := snapshot.Ref{Namespace: "shop", Name: "web"}
	ep := func(addr string, ready bool) snapshot.Endpoint {
		return snapshot.Endpoint{Addr: netip.MustParseAddrPort(addr), Ready: ready}
	}
	s := &snapshot.Snapshot{
		Services: []*snapshot.Service{{Ref: web, Endpoints: []snapshot.Endpoint{ep("10.244.1.5:8080", true), ep("10.244.2.5:8080", false), ep("10.244.2.5:8443", false)}}},
		Addresses: []*snapshot.Address{
			{Addr: vip, Holders: []snapshot.Holder{{Ref: web}}}, {Addr: vip.Next(), Holders: []snapshot.Holder{{Ref: web}}},
			{Addr: vip.Next().Next()}, // cools down: no row
		},
		NodeStates: []*snapshot.NodeState{{
			Electable: snapshot.Electable{Node: "n1"}, Renewed: at,
			Announces: []snapshot.Announced{{Addr: vip, Link: "eth0", Since: at.Add(-5 * time.Minute)}},
		}},
	}
	s.Sort()
	return &cluster.State{Snapshot: s, Now: at}
}

func report(node string, second int, connections, bytes uint64) traffic.Report {
	return traffic.Report{
		Node: node, Since: at, At: at.Add(time.Duration(second) * time.Second), Counts: true,
		VIPs: []traffic.VIP{{Address: vip.String(), Connections: connections, Bytes: bytes, Open: 3}},
	}
}

func TestTable(t *testing.T) {
	c := top.Counted{}
	line := func() string {
		got := top.Of(state(), c, map[string]string{"n9": "no way"})
		if len(got.Rows) != 2 || got.Rows[0].Address != vip.String() || got.Notes[0] != "not counted on n9: no way" {
			t.Fatalf("%+v", got)
		}
		r := got.Rows[0]
		text := fmt.Sprintf("%s by %s since %s, %d/%d ready, %d open", strings.Join(r.Services, ","), r.Announcer, r.MovedAgo, r.Ready, r.Endpoints, r.Open)
		if r.ConnectionsPerSecond != nil {
			text += fmt.Sprintf(", %.1f connections/s", *r.ConnectionsPerSecond)
		}
		if r.BytesPerSecond != nil {
			text += fmt.Sprintf(", %.0f B/s", *r.BytesPerSecond)
		}
		return text
	}
	const about = "shop/web by n1 since 5m, 1/2 ready, "
	uncounted := report("n2", 4, 5, 400)
	uncounted.Counts = false
	restarted := report("n1", 9, 1, 1)
	restarted.Since = at.Add(time.Second)
	for _, step := range []struct {
		what string
		add  []traffic.Report
		want string
	}{
		{"nobody was asked", nil, "0 open"},
		{"asked once: no rate yet", []traffic.Report{report("n1", 0, 10, 1000)}, "3 open"},
		{"asked twice", []traffic.Report{report("n1", 2, 20, 5000)}, "3 open, 5.0 connections/s, 2000 B/s"},
		{"the same answer again", []traffic.Report{report("n1", 2, 20, 5000)}, "3 open, 5.0 connections/s, 2000 B/s"},
		{"two nodes", []traffic.Report{report("n2", 0, 0, 0), uncounted}, "6 open, 6.2 connections/s, 2100 B/s"},
		{"a node started over", []traffic.Report{restarted}, "6 open, 1.2 connections/s, 100 B/s"},
	} {
		for _, r := range step.add {
			c.Add(r)
		}
		if got := line(); got != about+step.want {
			t.Errorf("%s: %s\nwant %s", step.what, got, about+step.want)
		}
	}
}
