package kube

import (
	"net/netip"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// TestRosterHasEverything: agents decide by the roster as they do by the Nodes, so each
// field of a Node is in it.
func TestRosterHasEverything(t *testing.T) {
	want := &snapshot.Node{}
	for v, i := reflect.ValueOf(want).Elem(), 0; i < v.NumField(); i++ {
		switch f := v.Field(i).Addr().Interface().(type) {
		case *string:
			*f = v.Type().Field(i).Name
		case *bool:
			*f = true
		case *[]string:
			*f = []string{"a", "b"}
		case *map[string]string:
			*f = map[string]string{corev1.LabelTopologyZone: "Zone", "a": "b"}
		case *[]netip.Addr:
			*f = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
		case *[]netip.Prefix:
			*f = []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24"), netip.MustParsePrefix("2001:db8:1::/64")}
		default:
			t.Fatalf("field %s is of a type that this test does not fill", v.Type().Field(i).Name)
		}
	}
	for _, node := range []*snapshot.Node{want, {Name: "bare"}} {
		parts, err := RosterOf([]*snapshot.Node{node})
		if err != nil || len(parts) != 1 {
			t.Fatalf("%d parts, %v", len(parts), err)
		}
		for name, data := range parts {
			got := toRosterPart(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data})
			if got.head != nil || len(got.nodes) != 1 || !reflect.DeepEqual(got.nodes[0], node) {
				t.Errorf("%+v became %+v", node, got.nodes)
			}
		}
	}
}

// A roster that cannot be read is not whole, whatever its head says.
func TestRosterThatCannotBeRead(t *testing.T) {
	part := toRosterPart(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: RosterPart(1)}, Data: map[string]string{"a": `{"ready":`, "b": `{}`}})
	head := toRosterPart(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: RosterHead}, Data: map[string]string{rosterNodes: "two"}})
	for _, h := range []*rosterPart{head, {head: &rosterHead{nodes: 2}}} {
		n := &nodeSource{parts: map[string]*rosterPart{RosterPart(1): part, RosterHead: h}}
		if n.whole() {
			t.Errorf("a part with %d Nodes is whole by %+v", len(part.nodes), h.head)
		}
	}
}
