package demo

import (
	"reflect"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/probe"
)

func row(name string, failures, distinct int) Row {
	return Row{Path: Path{Name: name}, Report: probe.Report{Requests: requests, Failures: failures, Distinct: distinct}}
}

func TestSummary(t *testing.T) {
	r := Result{Service: Service{ExternalIPs: []string{"192.0.2.1", "2001:db8::1"}}, Announcers: []Announcer{{Node: "node2"}, {Node: "node3"}}, Rows: []Row{row("a", 0, 6), row("b", 0, 6)}}
	want := "demo: ok EXTERNAL-IP=192.0.2.1 announced-by=node2 paths=2/2 pods=6/6"
	if got := r.Summary(); got != want {
		t.Errorf("summary = %q, want %q", got, want)
	}
	if err := r.objections(); err != nil {
		t.Error(err)
	}
}

func TestObjections(t *testing.T) {
	r := Result{Rows: []Row{row("good", 0, 6), row("lossy", 1, 6), row("lopsided", 0, 5)}}
	err := r.objections()
	if err == nil || strings.Contains(err.Error(), "good") {
		t.Fatalf("objections = %v", err)
	}
	for _, want := range []string{"lossy", "1 of 200 requests failed", "lopsided", "5 of 6 pods"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestNeighbour(t *testing.T) {
	got, err := neighbour([]byte(`[{"dst":"198.18.0.200","dev":"eth0","lladdr":"02:00:00:00:00:01","state":["STALE"]}]`))
	if got != "02:00:00:00:00:01" || err != nil {
		t.Errorf("neighbour = %q, %v", got, err)
	}
	for _, bad := range []string{"", "[]", `[{"dst":"198.18.0.200","dev":"eth0","state":["FAILED"]}]`} {
		if got, err := neighbour([]byte(bad)); err == nil {
			t.Errorf("neighbour(%q) = %q", bad, got)
		}
	}
}

func TestLinkWith(t *testing.T) {
	links := []byte(`[{"ifname":"lo","address":"00:00:00:00:00:00"},{"ifname":"eth0","address":"02:00:00:00:00:0A"}]`)
	if got := linkWith(links, "02:00:00:00:00:0a"); got != "eth0" {
		t.Errorf("link = %q", got)
	}
	if got := linkWith(links, "02:00:00:00:00:0b"); got != "" {
		t.Errorf("link = %q", got)
	}
}

func TestParseService(t *testing.T) {
	s, err := parseService([]byte(`{"spec":{"clusterIPs":["198.19.0.7","fd98:19::7"],"ports":[{"nodePort":30001}]},"status":{"loadBalancer":{"ingress":[{"ip":"fd98:18::200"},{"ip":"198.18.0.200"}]}}}`))
	want := Service{ExternalIPs: []string{"198.18.0.200", "fd98:18::200"}, ClusterIPs: []string{"198.19.0.7", "fd98:19::7"}, NodePort: 30001}
	if err != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("service = %+v, %v", s, err)
	}
	if _, err := parseService([]byte(`{"spec":{"clusterIPs":["198.19.0.7"],"ports":[{"nodePort":30001}]}}`)); err == nil {
		t.Error("no objection to a Service without an address")
	}
}

func TestParseHops(t *testing.T) {
	for text, want := range map[string][]string{
		`[]`: nil,
		`[{"dst":"192.0.2.1","gateway":"198.51.100.1","protocol":"bgp"}]`:                          {"198.51.100.1"},
		`[{"dst":"192.0.2.1","nexthops":[{"gateway":"198.51.100.1"},{"gateway":"198.51.100.2"}]}]`: {"198.51.100.1", "198.51.100.2"},
	} {
		if got, err := parseHops([]byte(text)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("hops of %s = %v, %v", text, got, err)
		}
	}
}

func TestRouted(t *testing.T) {
	route := Route{IP: "192.0.2.1", Nodes: []string{"node1", "node2"}, Connections: map[string]int{"node1": 60, "node2": 40}}
	r := Routed{
		Service: Service{ExternalIPs: []string{"192.0.2.1"}}, Sessions: map[string]string{"a": "Established", "b": "Established", "c": "Established", "d": "Established"},
		Routes: []Route{route}, Rows: []Row{row("a", 0, 6)}, nodes: []string{"node1", "node2"},
	}
	if got, want := r.Summary(), "demo: ok EXTERNAL-IP=192.0.2.1 announced-by=node1,node2 sessions=4/4 paths=1/1 pods=6/6"; got != want || r.objections() != nil {
		t.Errorf("summary = %q, %v, want %q", got, r.objections(), want)
	}
	route.Nodes, route.Connections = []string{"node1"}, map[string]int{"node1": 100}
	r.Routes = []Route{route}
	if err := r.objections(); err == nil || !strings.Contains(err.Error(), "next hops") || !strings.Contains(err.Error(), "came in by") {
		t.Errorf("objections = %v", err)
	}
}
