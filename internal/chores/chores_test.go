package chores

import (
	"log/slog"
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// The controller sets the labels that are missing, and leaves those that somebody set.
func TestNamespaceLabels(t *testing.T) {
	all := func(value string) map[string]string {
		return map[string]string{labels[0]: value, labels[1]: value, labels[2]: value, "team": "network"}
	}
	mixed := all(privileged)
	mixed[labels[2]] = "restricted"
	for name, row := range map[string]struct {
		have, want map[string]string
		writes     int
		says       int // lines
	}{
		"none":                      {map[string]string{"team": "network"}, all(privileged), 1, 1},
		"all are there":             {all(privileged), all(privileged), 0, 0},
		"somebody wants warnings":   {map[string]string{labels[2]: "restricted", "team": "network"}, mixed, 1, 1},
		"somebody refuses the pods": {map[string]string{enforce: "baseline"}, map[string]string{enforce: "baseline"}, 0, 1},
	} {
		client := fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "lb", Labels: row.have}})
		var said strings.Builder
		n := &namespace{client: client, name: "lb", log: slog.New(slog.NewTextHandler(&said, nil))}
		for range 2 {
			if err := n.keep(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		got, err := client.CoreV1().Namespaces().Get(t.Context(), "lb", metav1.GetOptions{})
		if err != nil || !maps.Equal(got.Labels, row.want) {
			t.Errorf("%s: the labels are %v, want %v (%v)", name, got.Labels, row.want, err)
		}
		writes := 0
		for _, a := range client.Actions() {
			if a.GetVerb() == "patch" {
				writes++
			}
		}
		if writes != row.writes || strings.Count(said.String(), "\n") != row.says {
			t.Errorf("%s: %d writes, want %d; it says\n%s", name, writes, row.writes, said.String())
		}
	}
}

func TestManifests(t *testing.T) {
	objects, err := read("\n---\nkind: AddressPool\nmetadata: {name: lan}\n---\nkind: BGPPeer\nmetadata: {name: router}\n---\n")
	if err != nil || len(objects) != 2 || objects[0].String() != "addresspools/lan" || objects[1].String() != "bgppeers/router" {
		t.Errorf("%v, %v", objects, err)
	}
	if objects, err := read(""); err != nil || len(objects) != 0 {
		t.Errorf("nothing is %v, %v", objects, err)
	}
	if _, err := read("kind: Secret\nmetadata: {name: a}\n"); err == nil || !strings.Contains(err.Error(), "Secret") {
		t.Errorf("a Secret: %v", err)
	}
}
