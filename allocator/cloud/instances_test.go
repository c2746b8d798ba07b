package cloud

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cloud-provider/api"
)

// What a Node is told to be follows from what its kubelet has said of it.
func TestInstanceMetadata(t *testing.T) {
	for _, row := range []struct {
		name, given, has, id string
		want, wantID, refuse string
	}{
		{name: "the kubelet's --node-ip", given: "192.0.2.11", has: "Hostname=n", want: "InternalIP=192.0.2.11 Hostname=n", wantID: "fairlead://n"},
		{name: "both families", given: "192.0.2.11,2001:db8::b", want: "InternalIP=192.0.2.11 InternalIP=2001:db8::b", wantID: "fairlead://n"},
		{name: "--node-ip wins over what the Node has", given: "192.0.2.11", has: "InternalIP=192.0.2.99 ExternalIP=198.51.100.1", want: "InternalIP=192.0.2.11 ExternalIP=198.51.100.1", wantID: "fairlead://n"},
		{name: "what the Node has", has: "InternalIP=192.0.2.11 Hostname=n", want: "InternalIP=192.0.2.11 Hostname=n", wantID: "fairlead://n"},
		{name: "an ID that is there stays", given: "192.0.2.11", id: "other://7", want: "InternalIP=192.0.2.11", wantID: "other://7"},
		{name: "no address", has: "Hostname=n", refuse: "--node-ip"},
		{name: "no address that can be read", given: "192.0.2.300", refuse: api.AnnotationAlphaProvidedIPAddr},
	} {
		t.Run(row.name, func(t *testing.T) {
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Annotations: map[string]string{}, Labels: map[string]string{corev1.LabelTopologyZone: "z"}}}
			node.Spec.ProviderID = row.id
			if row.given != "" {
				node.Annotations[api.AnnotationAlphaProvidedIPAddr] = row.given
			}
			for pair := range strings.FieldsSeq(row.has) {
				kind, ip, _ := strings.Cut(pair, "=")
				node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeAddressType(kind), Address: ip})
			}
			got, err := instances{}.InstanceMetadata(t.Context(), node)
			if row.refuse != "" {
				if err == nil || !strings.Contains(err.Error(), row.refuse) {
					t.Fatalf("%+v, %v: want a refusal that names %s", got, err, row.refuse)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var pairs []string
			for _, a := range got.NodeAddresses {
				pairs = append(pairs, string(a.Type)+"="+a.Address)
			}
			if text := strings.Join(pairs, " "); text != row.want || got.ProviderID != row.wantID || got.Zone+got.Region+got.InstanceType != "" {
				t.Errorf("got %s %+v, want %s with ID %s", text, got, row.want, row.wantID)
			}
		})
	}
}

// Nobody is ever told that a machine is gone, and only who asks for it gets to
// ask at all.
func TestInstancesNeverDelete(t *testing.T) {
	if yes, err := (instances{}).InstanceExists(t.Context(), &corev1.Node{}); !yes || err != nil {
		t.Errorf("exists: %v, %v", yes, err)
	}
	if yes, err := (instances{}).InstanceShutdown(t.Context(), &corev1.Node{}); yes || err != nil {
		t.Errorf("shut down: %v, %v", yes, err)
	}
	for _, on := range []bool{false, true} {
		if _, ok := (&Provider{Config: Config{Nodes: on}}).InstancesV2(); ok != on {
			t.Errorf("Nodes %v: instances %v", on, ok)
		}
	}
}
