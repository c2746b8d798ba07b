package kube

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

func TestToNode(t *testing.T) {
	n := toNode(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{corev1.LabelTopologyZone: "east"}, DeletionTimestamp: &metav1.Time{}},
		Spec:       corev1.NodeSpec{PodCIDRs: []string{"10.001.1.0/24", "fd00:1::/64", "nonsense"}, PodCIDR: "10.9.9.0/24", Unschedulable: true, Taints: []corev1.Taint{{Key: "z"}, {Key: "b"}}},
		Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "a"}, {Type: corev1.NodeExternalIP, Address: "203.0.113.1"},
				{Type: corev1.NodeInternalIP, Address: "198.51.100.9"}, {Type: corev1.NodeInternalIP, Address: "198.51.100.1"}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}, {Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionUnknown}},
		},
	})
	if got, want := fmt.Sprintln(n.InternalIPs, n.PodCIDRs, n.Taints, n.Zone), "[198.51.100.9 198.51.100.1] [10.1.1.0/24 fd00:1::/64] [b z] east\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !n.Ready || n.NetworkUnavail || !n.Unschedulable || !n.Deleting {
		t.Errorf("got %+v", n)
	}
	silent := toNode(&corev1.Node{Spec: corev1.NodeSpec{PodCIDR: "10.9.9.0/24"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}}})
	if !silent.Ready || fmt.Sprint(silent.PodCIDRs) != "[10.9.9.0/24]" {
		t.Errorf("got %+v", silent)
	}
	for _, conditions := range [][]corev1.NodeCondition{nil, {{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}} {
		if n := toNode(&corev1.Node{Status: corev1.NodeStatus{Conditions: conditions}}); n.Ready || n.ShuttingDown {
			t.Errorf("ready with the conditions %v", conditions)
		}
	}
	// As kubelet 1.36 writes it while systemd waits for it to end the pods.
	down := toNode(&corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: "[container runtime is down, node is shutting down]",
	}}}})
	if down.Ready || !down.ShuttingDown {
		t.Errorf("a kubelet says that the machine shuts down: %+v", down)
	}
}

// TestToAnnouncement: what an Announcement says of staying and leaving is read.
func TestToAnnouncement(t *testing.T) {
	in := &v1alpha1.Announcement{Spec: v1alpha1.AnnouncementSpec{L2: &v1alpha1.L2Announcement{}}}
	if got := toAnnouncement(in); got.FailbackNever || got.DrainOn != 0 || got.Rebalance != "" {
		t.Errorf("nothing said: %+v", got)
	}
	in.Annotations = map[string]string{v1alpha1.AnnotationRebalance: "now"}
	in.Spec.Failback, in.Spec.DrainOn = v1alpha1.FailbackNever, []v1alpha1.DrainCause{"Cordon", "Shutdown", "Deletion", "OutOfServiceTaint"}
	if got := toAnnouncement(in); !got.FailbackNever || got.DrainOn != snapshot.DrainByDefault|snapshot.DrainCordon || got.Rebalance != "now" {
		t.Errorf("got %+v", got)
	}
}

func TestToSelector(t *testing.T) {
	labels := map[string]string{"app": "web", "tier": "front"}
	in := func(op metav1.LabelSelectorOperator, key string, values ...string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: op, Values: values}}}
	}
	tests := []struct {
		name     string
		selector *metav1.LabelSelector
		want     bool
	}{
		{"none", nil, true},
		{"empty", &metav1.LabelSelector{}, true},
		{"labels", &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web", "tier": "front"}}, true},
		{"another value", &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}, false},
		{"a missing label", &metav1.LabelSelector{MatchLabels: map[string]string{"zone": ""}}, false},
		{"in", in(metav1.LabelSelectorOpIn, "app", "db", "web"), true},
		{"in others", in(metav1.LabelSelectorOpIn, "app", "db"), false},
		{"in, missing", in(metav1.LabelSelectorOpIn, "zone", ""), false},
		{"not in", in(metav1.LabelSelectorOpNotIn, "app", "db"), true},
		{"not in itself", in(metav1.LabelSelectorOpNotIn, "app", "web"), false},
		{"not in, missing", in(metav1.LabelSelectorOpNotIn, "zone", "x"), true},
		{"exists", in(metav1.LabelSelectorOpExists, "app"), true},
		{"exists, missing", in(metav1.LabelSelectorOpExists, "zone"), false},
		{"does not exist", in(metav1.LabelSelectorOpDoesNotExist, "zone"), true},
		{"does not exist, there", in(metav1.LabelSelectorOpDoesNotExist, "app"), false},
		{"an operator that is none", in("Near", "app", "web"), false},
		{"labels and expressions", &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"},
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: metav1.LabelSelectorOpDoesNotExist}}}, false},
	}
	for _, tt := range tests {
		if got := toSelector(tt.selector).Matches(labels); got != tt.want {
			t.Errorf("%s: got %t", tt.name, got)
		}
	}
}

// TestAddressThereAndBack: what is written of a record is read as it was.
func TestAddressThereAndBack(t *testing.T) {
	want := &snapshot.Address{Pool: "lan", ShareKey: "k", ShareGroup: "b", UID: "u", ResourceVersion: "7", Created: time.Unix(8, 0), Conflict: "02:00:00:00:00:01", ProbedAt: time.Unix(9, 0), Conflicting: "it answers", Holders: []snapshot.Holder{
		{Ref: snapshot.Ref{Namespace: "a", Name: "z"}, UID: "1", Ports: []snapshot.HeldPort{{Protocol: snapshot.TCP, Port: 80}, {Protocol: snapshot.UDP, Port: 53}},
			Ranges: []snapshot.PortRange{{Protocol: snapshot.TCP, First: 1, Last: 65535}, {Protocol: snapshot.UDP, First: 5060, Last: 5060}}},
		{Ref: snapshot.Ref{Namespace: "b", Name: "a"}, UID: "2", Ports: []snapshot.HeldPort{{Protocol: snapshot.SCTP, Port: 9}}},
	}}
	want.Addr, _ = snapshot.ParseAddr("2001:db8::10")
	spec := FromAddress(*want)
	spec.Holders[0], spec.Holders[1] = spec.Holders[1], spec.Holders[0]
	got := toAddress(&v1alpha1.Address{ObjectMeta: metav1.ObjectMeta{UID: "u", ResourceVersion: "7", CreationTimestamp: metav1.NewTime(time.Unix(8, 0))}, Spec: spec, Status: v1alpha1.AddressStatus{
		ProbedAt: &metav1.Time{Time: want.ProbedAt}, Conflict: want.Conflict,
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionConflicting, Status: metav1.ConditionTrue, Message: want.Conflicting}},
	}})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if bad := toAddress(&v1alpha1.Address{Spec: v1alpha1.AddressSpec{Address: "nonsense"}}); bad != nil {
		t.Errorf("nonsense was read as %+v", bad)
	}
}

func TestToNodeState(t *testing.T) {
	n := ToNodeState(&v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Status: v1alpha1.NodeStateStatus{
		Engine: v1alpha1.EngineState{InSync: true}, Draining: true, Links: []v1alpha1.NodeLink{{Name: "eth0", Prefixes: []string{"192.0.2.5/24"}}},
		Announces: []v1alpha1.AnnouncedAddress{{Address: "192.0.2.10", Link: "eth0"}, {Address: "nonsense"}},
		Findings:  []v1alpha1.AddressFinding{{Address: "192.0.2.11", UID: "u", ProbedAt: &metav1.Time{Time: time.Unix(9, 0)}, Conflict: "c"}, {Address: "nonsense"}},
		Problems:  []v1alpha1.ServiceProblem{{Service: "shop/web", Reason: "NodePortClaimed", Message: "taken"}},
	}})
	want := snapshot.Problem{Service: snapshot.Ref{Namespace: "shop", Name: "web"}, Reason: "NodePortClaimed", Message: "taken"}
	if len(n.Problems) != 1 || n.Problems[0] != want {
		t.Errorf("problems %+v", n.Problems)
	}
	if len(n.Findings) != 1 || n.Findings[0].Addr.String() != "192.0.2.11" || n.Findings[0].UID != "u" || n.Findings[0].ProbedAt.Unix() != 9 || n.Findings[0].Conflict != "c" {
		t.Errorf("findings %+v", n.Findings)
	}
	// The host bits stay: they are the node's own address.
	if got := fmt.Sprintln(n.Node, n.InSync, n.Draining, n.Links[0].Prefixes, len(n.Announces)); got != "a true true [192.0.2.5/24] 1\n" {
		t.Errorf("got %s", got)
	}
}

// A NodeState that is written and read is as it was; the API lists so much of it, and
// counts the rest.
func TestNodeStateThereAndBack(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.10")
	why := snapshot.Refusal{Reason: "NoEndpoint", Message: "no ready endpoint in the cluster"}
	want := snapshot.NodeState{
		Electable: snapshot.Electable{Node: "a", InSync: true, Draining: true, Protocol: announcer.Protocol, Unforwarded: []snapshot.Family{snapshot.IPv4, snapshot.IPv6}, DrainsFor: snapshot.DrainShutdown | snapshot.DrainCordon, Stays: []netip.Addr{addr}, Links: []snapshot.Link{
			{Name: "eth0", MAC: "02:00:00:00:00:01", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.5/24")}},
		}, Director: &snapshot.DirectorState{Able: true, Why: "w", Reaches: []string{"n7"}, Links: []snapshot.DirectorLink{
			{Name: "eth0", MAC: "02:00:00:00:00:01", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.5"), netip.MustParseAddr("2001:db8::5")}},
		}}},
		Version: "0.1.0", Renewed: time.Unix(7, 0),
		Engine: snapshot.Engine{
			Mode: "nftables", Message: "m", Services: 3, Endpoints: 9, Accelerator: snapshot.Accelerator{Mode: "ebpf", Message: "n", LeftFrontends: 1},
			LocalPods: &snapshot.LocalPods{Count: 4, Links: "cali*", Routes: []netipx.IPRange{
				netipx.MustParseIPRange("198.18.190.5-198.18.190.7"), netipx.MustParseIPRange("fd98::5-fd98::5"),
			}},
		},
		Announces: []snapshot.Announced{
			{Addr: addr, Link: "eth0", MAC: "02:00:00:00:00:01", Service: "shop/web", Since: time.Unix(8, 0), Leaving: true, Stays: true}, {Addr: addr.Next(), Peers: 2},
		},
		Unlisted: 5,
		Refused:  []snapshot.Refused{{Addr: addr, Refusal: why}},
		Silent:   []snapshot.Silent{{Node: "b", Verdict: "node-gone", Quarantined: true}},
		Peers:    []snapshot.PeerState{{Name: "tor", Address: "192.0.2.254", State: "Established", Since: time.Unix(9, 0), LastError: "e", Prefixes: 4, BFD: "Up"}},
		Findings: []snapshot.Finding{{Addr: addr, UID: "u", ProbedAt: time.Unix(10, 0), Conflict: "c"}, {Addr: addr.Next(), UID: "v", Claimant: "d"}},
		Problems: []snapshot.Problem{{Service: snapshot.Ref{Namespace: "shop", Name: "web"}, Reason: "NodePortClaimed", Message: "taken"}},
	}
	status := FromNodeState(want)
	if got := ToNodeState(&v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Status: status}); !reflect.DeepEqual(*got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", *got, want)
	}
	if status.AnnouncesCount != 7 || status.RefusedCount != 1 || status.ProblemsCount != 1 || status.Findings[1].ProbedAt != nil {
		t.Errorf("written as %+v", status)
	}

	many := snapshot.NodeState{
		Electable: snapshot.Electable{Director: &snapshot.DirectorState{Why: strings.Repeat("w", 5000)}},
		Engine:    snapshot.Engine{Message: strings.Repeat("x", 5000), LocalPods: &snapshot.LocalPods{Count: 300, Routes: make([]netipx.IPRange, 300)}},
		Announces: make([]snapshot.Announced, 1002), Refused: make([]snapshot.Refused, 1003), Findings: make([]snapshot.Finding, 1004),
		Problems: []snapshot.Problem{{Message: strings.Repeat("y", 5000)}}, Peers: []snapshot.PeerState{{LastError: strings.Repeat("z", 5000)}},
	}
	status = FromNodeState(many)
	got := fmt.Sprintln(len(status.Announces), status.AnnouncesCount, len(status.Refused), status.RefusedCount, len(status.Findings),
		len(status.Engine.Message), len(status.Problems[0].Message), len(status.Peers[0].LastError),
		len(status.Engine.LocalPods.Routes), status.Engine.LocalPods.RoutesCount, len(status.Director.Message))
	if got != "1000 1002 1000 1003 1000 4096 1024 1024 256 300 256\n" {
		t.Errorf("what is too long is written as %s", got)
	}
}

// What changes all the time and decides nothing wakes nobody: a Snapshot does not
// hold it.
func TestSnapshotHoldsOfANodeStateWhatDecides(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.10")
	refused := func(reason snapshot.Reason) snapshot.Refused {
		return snapshot.Refused{Addr: addr, Refusal: snapshot.Refusal{Reason: reason}}
	}
	version := 0
	object := func(st snapshot.NodeState) *v1alpha1.NodeState {
		version++
		return &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "a", ResourceVersion: fmt.Sprint(version)}, Status: FromNodeState(st)}
	}
	for _, tc := range []struct {
		name string
		st   snapshot.NodeState
		news bool
	}{
		{"a renewal", snapshot.NodeState{Renewed: time.Unix(9, 0)}, false},
		{"a version", snapshot.NodeState{Version: "0.1.1"}, false},
		{"another pod", snapshot.NodeState{Engine: snapshot.Engine{LocalPods: &snapshot.LocalPods{Count: 1}}}, false},
		{"more endpoints", snapshot.NodeState{Engine: snapshot.Engine{Endpoints: 9}}, false},
		{"another node was elected", snapshot.NodeState{Refused: []snapshot.Refused{refused(announcer.NotOwner)}}, false},
		{"nobody was elected", snapshot.NodeState{Refused: []snapshot.Refused{refused(announcer.NoEndpoint)}}, true},
		{"an agent restarts", snapshot.NodeState{Silent: []snapshot.Silent{{Node: "b", Verdict: announcer.AgentGone.String()}}}, false},
		{"a node is lost", snapshot.NodeState{Silent: []snapshot.Silent{{Node: "b", Verdict: announcer.NodeGone.String()}}}, true},
		{"a session", snapshot.NodeState{Peers: []snapshot.PeerState{{Name: "tor", State: "Active"}}}, true},
		{"the director", snapshot.NodeState{Electable: snapshot.Electable{Director: &snapshot.DirectorState{Able: true}}}, false},
		{"a link", snapshot.NodeState{Electable: snapshot.Electable{Links: []snapshot.Link{{Name: "eth0"}}}}, true},
	} {
		b := NewBuilder()
		b.Set(object(snapshot.NodeState{}))
		if got := b.Set(object(tc.st)); got != tc.news {
			t.Errorf("%s: news is %t", tc.name, got)
		}
	}
	b := NewBuilder()
	session := func(why string) *v1alpha1.NodeState {
		return object(snapshot.NodeState{Peers: []snapshot.PeerState{{Name: "tor", State: "Active", LastError: why}}})
	}
	b.Set(session("connection refused"))
	if b.Set(session("no route to host")) {
		t.Error("another error of a session is news")
	}
}

// A NodeState that somebody else wrote names no more pods than a node can have.
func TestLocalPodsAreFew(t *testing.T) {
	l := toLocalPods(&v1alpha1.LocalPods{RoutesCount: 1 << 30, Routes: []string{"::-ffff::", "2001:db8::9-2001:db8::1", "x", "198.18.0.5-2001:db8::1"}})
	if n := len(l.Addrs()); len(l.Routes) != 1 || n != mostPods {
		t.Errorf("%d pods of %v", n, l.Routes)
	}
	if l := toLocalPods(&v1alpha1.LocalPods{RoutesCount: -1, Routes: []string{"198.18.0.5"}}); len(l.Addrs()) != 0 {
		t.Errorf("pods of a negative count: %v", l.Addrs())
	}
}
