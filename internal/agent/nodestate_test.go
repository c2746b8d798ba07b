package agent

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/announcer/bgp/gobgp"
	"github.com/fairlead/fairlead/announcer/bgp/speaker"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/saved"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

var vips = []netip.Addr{
	netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("192.0.2.12"), netip.MustParseAddr("192.0.2.13"),
}

// The NodeState says what is held on links, and what of it is handed over; who is
// silent; and why the rest is not announced.
func TestDescribe(t *testing.T) {
	of := func(addr netip.Addr, name string) announcer.VIP {
		return announcer.VIP{Addr: addr, Links: []string{"eth0"}, Services: []snapshot.Ref{{Namespace: "shop", Name: name}}}
	}
	st := state{
		engineState: engineState{Engine: node.Engine{InSync: true}, summary: proxy.Summary{Services: 3, Endpoints: 9}},
		plan: node.State{
			Draining: true, Elected: []announcer.VIP{of(vips[0], "web")}, Leaving: []announcer.VIP{of(vips[1], "db")},
			Refused: []announcer.Refused{{Addr: vips[2], Owner: "n1", Refusal: snapshot.Refusal{Reason: announcer.EngineNotReady, Message: "not yet"}}},
		},
		held: []announcer.Claim{{Addr: vips[0], Link: "eth0"}, {Addr: vips[1], Link: "eth0"}},
		view: announcer.View{Node: "n1", Members: []announcer.Member{
			{Node: "n1", Report: &announcer.Report{Electable: snapshot.Electable{Node: "n1"}}},
			{Node: "n2", Verdict: announcer.NodeGone, Quarantine: true},
		}},
	}
	got := st.known(link.State{Links: []snapshot.Link{{Name: "eth0", MAC: "02:00:00:00:00:01"}}}, nil).Describe(time.Now())
	want := []string{
		"{192.0.2.10 eth0 02:00:00:00:00:01 0 shop/web leaving=false}", "{192.0.2.11 eth0 02:00:00:00:00:01 0 shop/db leaving=true}",
		"[{n2 node-gone true}]", "[{192.0.2.12 EngineNotReady: not yet}]", "true true 3 9",
	}
	var lines []string
	for _, a := range got.Announces {
		lines = append(lines, fmt.Sprintf("{%s %s %s %d %s leaving=%t}", a.Addr, a.Link, a.MAC, a.Peers, a.Service, a.Leaving))
	}
	lines = append(lines, fmt.Sprint(got.Silent), fmt.Sprintf("[{%s %s}]", got.Refused[0].Addr, got.Refused[0].Refusal),
		fmt.Sprint(got.InSync, got.Draining, got.Engine.Services, got.Engine.Endpoints))
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// What is announced over BGP counts the sessions that are established. A peer that
// is refused is listed too.
func TestDescribeBGP(t *testing.T) {
	plan := bgp.Plan{
		Announce: []bgp.VIP{{Addr: vips[0], Peers: []string{"spine", "tor"}, Services: []snapshot.Ref{{Namespace: "shop", Name: "web"}}}},
		Refused:  []bgp.Refused{{Kind: "peer", Name: "leaf", Refusal: snapshot.Refusal{Reason: bgp.BadBFD}}},
	}
	sessions := []speaker.Status{
		{Name: "tor", Addr: netip.MustParseAddr("192.0.2.254"), Status: gobgp.Status{State: "Established", Established: true}},
		{Name: "spine", Status: gobgp.Status{State: "Active", LastError: "refused"}},
	}
	st := state{plan: node.State{Routed: plan.Announce}}
	out := st.known(link.State{}, sessions).Describe(time.Now())
	out.Peers = peerStates(plan, sessions)
	if len(out.Announces) != 1 || out.Announces[0].Peers != 1 || out.Announces[0].Service != "shop/web" {
		t.Errorf("announces %+v", out.Announces)
	}
	var peers []string
	for _, p := range out.Peers {
		peers = append(peers, p.Name+" "+p.State)
	}
	if got := strings.Join(peers, ", "); got != "leaf Refused, spine Active, tor Established" {
		t.Errorf("peers %s", got)
	}
}

// A snapshot that an agent of v0.1.0 saved is of use after an upgrade: what an
// election reads of a NodeState is where it was.
func TestLoadOfAnEarlierVersion(t *testing.T) {
	dir := t.TempDir()
	data := `{"Version":1,"Node":"n1","Snapshot":{"NodeStates":[{"Node":"n1","Links":[{"Name":"eth0","Index":2,"MAC":"02:00:00:00:00:01","Prefixes":["192.0.2.5/24"]}],
		"InSync":true,"Draining":true,"Announces":[{"Addr":"192.0.2.10","Link":"eth0","MAC":"02:00:00:00:00:01","Peers":0,"Leaving":false}],
		"Peers":[{"Name":"tor","State":"Refused","Why":"BadBFD"}],"Gone":["n2"],"Refused":[{"Addr":"192.0.2.11","Reason":"NoEndpoint","Message":"none"}],"Findings":null,"Problems":null}]}}`
	if err := os.WriteFile(saved.Paths(dir)[1], []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := saved.Read(dir, "n1")
	if err != nil {
		t.Fatal(err)
	}
	st := got.Snapshot.NodeState("n1")
	if fmt.Sprintln(st.InSync, st.Draining, st.Links[0].Prefixes, st.Announces[0].Addr, st.Refused[0].Reason) != "true true [192.0.2.5/24] 192.0.2.10 NoEndpoint\n" {
		t.Errorf("got %+v", st)
	}
}

// A NodeState goes with the namespace of the installation. Without it, it is written all
// the same.
func TestNodeStateOwner(t *testing.T) {
	a, _ := newAgent(t, Full, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "lb", UID: "1"}})
	for namespace, want := range map[string]*metav1.OwnerReference{
		"lb": {APIVersion: "v1", Kind: "Namespace", Name: "lb", UID: "1"}, "gone": nil,
	} {
		a.cfg.Namespace = namespace
		if got := a.cfg.owner(t.Context()); !reflect.DeepEqual(got, want) {
			t.Errorf("in namespace %s the owner is %+v", namespace, got)
		}
	}
}
