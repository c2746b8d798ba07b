package kube

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// TestReservations: they are sorted by address.
func TestReservations(t *testing.T) {
	p := &v1alpha1.AddressPool{Spec: v1alpha1.AddressPoolSpec{Reservations: []v1alpha1.Reservation{
		{Address: "192.0.2.2", Namespace: "b", Name: "x"}, {Address: "192.0.2.1", Namespace: "a", Name: "y"},
	}}}
	want := []snapshot.Reservation{
		{Addr: netip.MustParseAddr("192.0.2.1"), Ref: snapshot.Ref{Namespace: "a", Name: "y"}},
		{Addr: netip.MustParseAddr("192.0.2.2"), Ref: snapshot.Ref{Namespace: "b", Name: "x"}},
	}
	if got := toPool(p).Reservations; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestParseRange(t *testing.T) {
	tests := []struct{ text, want string }{
		{"192.0.2.0/25", "192.0.2.0-192.0.2.127"},
		{" 192.0.2.0/25 ", "192.0.2.0-192.0.2.127"},
		{"192.0.2.7/32", "192.0.2.7-192.0.2.7"},
		{"192.0.2.7", "192.0.2.7-192.0.2.7"},
		{"192.0.2.1-192.0.2.9", "192.0.2.1-192.0.2.9"},
		{"192.0.2.1 - 192.0.2.9", "192.0.2.1-192.0.2.9"},
		{"192.0.2.9-192.0.2.9", "192.0.2.9-192.0.2.9"},
		{"2001:db8::/126", "2001:db8::-2001:db8::3"},
		{"2001:db8::1-2001:db8::ff", "2001:db8::1-2001:db8::ff"},
		{"0.0.0.0/0", "0.0.0.0-255.255.255.255"},
		{"192.0.2.9-192.0.2.1", `"192.0.2.9-192.0.2.1" is reversed`},
		{"192.0.2.5/24", `"192.0.2.5/24" has host bits set: write 192.0.2.0/24`},
		{"192.0.2.0/33", `"192.0.2.0/33" is not a CIDR`},
		{"192.0.2.0/", `"192.0.2.0/" is not a CIDR`},
		{"192.0.2.1-2001:db8::1", `"192.0.2.1-2001:db8::1" mixes IPv4 and IPv6`},
		{"192.0.2.1-", `"192.0.2.1-" is not a range of addresses`},
		{"192.0.2.1-9", `"192.0.2.1-9" is not a range of addresses`},
		{"192.0.2.0/25-192.0.2.200", `"192.0.2.0/25-192.0.2.200" is not a range of addresses`},
		{"lan", `"lan" is not an address, CIDR or range`},
		{"", `"" is not an address, CIDR or range`},
		{"192.0.2.010", `"192.0.2.010" is not an address, CIDR or range`},
		{"fe80::1%eth0", `"fe80::1%eth0" is not an address, CIDR or range`},
		{"fe80::1%a-fe80::2%a", `"fe80::1%a-fe80::2%a" is not a range of addresses`},
		{"::ffff:192.0.2.1", `"::ffff:192.0.2.1" is IPv4 written as IPv6: write it as IPv4`},
		{"::ffff:192.0.2.0/120", `"::ffff:192.0.2.0/120" is IPv4 written as IPv6: write it as IPv4`},
		{"::ffff:192.0.2.1-::ffff:192.0.2.9", `"::ffff:192.0.2.1-::ffff:192.0.2.9" is IPv4 written as IPv6: write it as IPv4`},
	}
	for _, tt := range tests {
		r, err := parseRange(tt.text)
		got := r.String()
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.text, got, tt.want)
		}
	}
}

// FuzzParseRange: what is read is a range of one family, without zones, that
// reads the same when it is written out.
func FuzzParseRange(f *testing.F) {
	for _, seed := range []string{"192.0.2.0/25", "192.0.2.1-192.0.2.9", "192.0.2.1", "2001:db8::/32", "::-::1", "fe80::1%x-fe80::2%x", "::ffff:1.2.3.4", "/", "-", "0.0.0.0/0", " 1.2.3.4 "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRange(text)
		if err != nil {
			if !strings.Contains(err.Error(), " ") {
				t.Fatalf("%q: %v says nothing", text, err)
			}
			return
		}
		if !r.IsValid() || r.From().Zone() != "" || r.From().Is4In6() || r.To().Is4In6() || r.From().Is4() != r.To().Is4() {
			t.Fatalf("%q was read as %s", text, r)
		}
		if again, err := parseRange(r.String()); err != nil || again != r {
			t.Fatalf("%q was read as %s, and that as %s (%v)", text, r, again, err)
		}
	})
}

func TestToPool(t *testing.T) {
	no, priority := false, int32(7)
	p := toPool(&v1alpha1.AddressPool{
		ObjectMeta: metav1.ObjectMeta{Name: "lan", UID: "u", Generation: 3, Labels: map[string]string{"k": "v"}},
		Spec: v1alpha1.AddressPoolSpec{
			Addresses: []string{"192.0.2.0/30", "nonsense", "192.0.2.9-192.0.2.1"}, AutoAssign: &no, Priority: &priority,
			NamespaceSelector: &metav1.LabelSelector{},
		},
	})
	if len(p.Ranges) != 1 || p.Ranges[0].To() != netip.MustParseAddr("192.0.2.3") {
		t.Errorf("ranges are %v", p.Ranges)
	}
	if want := []string{`"nonsense" is not an address, CIDR or range`, `"192.0.2.9-192.0.2.1" is reversed`}; strings.Join(p.Bad, "; ") != strings.Join(want, "; ") {
		t.Errorf("bad are %q", p.Bad)
	}
	if p.AutoAssign || p.Priority != 7 || p.Generation != 3 || p.Labels["k"] != "v" {
		t.Errorf("got %+v", p)
	}
	if p.ServiceSelector != nil || p.NamespaceSelector == nil || !p.NamespaceSelector.Matches(map[string]string{"any": "thing"}) {
		t.Errorf("selectors are %v and %v", p.ServiceSelector, p.NamespaceSelector)
	}
	if d := toPool(&v1alpha1.AddressPool{}); !d.AutoAssign || d.CoolDown != 10*time.Minute || d.Priority != snapshot.NoPriority || d.Bad != nil {
		t.Errorf("defaults are %+v", d)
	}
}
