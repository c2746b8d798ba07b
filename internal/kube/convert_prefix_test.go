package kube

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

func TestParseHost(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"::10", "::10-::10"},
		{"::10-::ff", "::10-::ff"},
		{"::1:0:0:10 - ::1:0:0:ff", "::1:0:0:10-::1:0:0:ff"},
		{"::ff-::10", `spec.fromPrefix.host: "::ff-::10" is reversed`},
		{"::-::ff", `spec.fromPrefix.host: "::-::ff" contains ::, which is an address of the routers`},
		{"2001:db8::10", `spec.fromPrefix.host: "2001:db8::10" has more than the last 64 bits of an IPv6 address`},
		{"::10-::1:0:0:0:0", `spec.fromPrefix.host: "::10-::1:0:0:0:0" has more than the last 64 bits of an IPv6 address`},
		{"192.0.2.1", `spec.fromPrefix.host: "192.0.2.1" has more than the last 64 bits of an IPv6 address`},
		{"ten", `spec.fromPrefix.host: "ten" is not an address, CIDR or range`},
	} {
		r, err := parseHost(tt.text)
		got := r.String()
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.text, got, tt.want)
		}
	}
}

// TestFromPrefix: a pool's ranges are its own, and those of the prefixes that it gives or
// gave addresses of. Prefixes that cannot be read do not count.
func TestFromPrefix(t *testing.T) {
	since := metav1.NewTime(time.Unix(1_000_000, 0))
	p := &v1alpha1.AddressPool{
		Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"192.0.2.0/31"}, FromPrefix: &v1alpha1.FromPrefix{Interface: "eth0", Host: "::10-::11"}},
		Status: v1alpha1.AddressPoolStatus{Prefixes: []v1alpha1.PoolPrefix{
			{Prefix: "2001:db8:2::/64", State: "Current", Since: since}, {Prefix: "2001:db8:1::/64", State: "Leaving", Since: since, Until: &since},
			{Prefix: "2001:db8:3::/64", State: "Candidate", Since: since}, {Prefix: "2001:db8::/48", State: "Current", Since: since}, {Prefix: "nonsense", State: "Current", Since: since},
		}},
	}
	pool := toPool(p)
	want := "[192.0.2.0-192.0.2.1 2001:db8:2::10-2001:db8:2::11 2001:db8:1::10-2001:db8:1::11]"
	if got := fmt.Sprint(pool.Ranges); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if again := toPool(&v1alpha1.AddressPool{Spec: p.Spec, Status: v1alpha1.AddressPoolStatus{Prefixes: FromPrefixes(pool.Prefixes)}}); !reflect.DeepEqual(again.Prefixes, pool.Prefixes) {
		t.Errorf("got %v, want %v", again.Prefixes, pool.Prefixes)
	}
	p.Spec.FromPrefix.Host = "::"
	if bad := toPool(p); len(bad.Bad) != 1 || len(bad.Ranges) != 1 || !strings.Contains(bad.Bad[0], "routers") {
		t.Errorf("got %v, %v", bad.Bad, bad.Ranges)
	}
}

// TestLinkPrefixes: what an agent sees comes back from the API as it was, within bounds.
func TestLinkPrefixes(t *testing.T) {
	var st snapshot.NodeState
	for i := range 100 {
		p, _ := snapshot.ParsePrefix(fmt.Sprintf("2001:db8:%x::/64", i))
		st.Prefixes = append(st.Prefixes, snapshot.LinkPrefix{Link: "eth0", Prefix: p, Deprecated: i%2 == 1})
	}
	obj := &v1alpha1.NodeState{Status: FromNodeState(st)}
	if got := ToNodeState(obj).Prefixes; !reflect.DeepEqual(got, st.Prefixes[:mostPrefixes]) {
		t.Errorf("got %v", got)
	}
	if got := decisive(ToNodeState(obj)).Prefixes; len(got) != mostPrefixes {
		t.Errorf("the controller is told of %d", len(got))
	}
}
