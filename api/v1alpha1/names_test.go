package v1alpha1

import (
	"encoding/json"
	"net/netip"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
)

func TestAddressName(t *testing.T) {
	tests := []struct{ addr, name string }{
		{"192.0.2.1", "192.0.2.1"},
		{"::ffff:192.0.2.1", "192.0.2.1"},
		{"2001:db8::1", "2001-0db8-0000-0000-0000-0000-0000-0001"},
		{"fe80::1%eth0", "fe80-0000-0000-0000-0000-0000-0000-0001"},
		{"::", "0000-0000-0000-0000-0000-0000-0000-0000"},
	}
	for _, tt := range tests {
		addr := netip.MustParseAddr(tt.addr)
		name := AddressName(addr)
		if name != tt.name {
			t.Errorf("AddressName(%s) = %q, want %q", tt.addr, name, tt.name)
		}
		if errs := validation.IsDNS1123Subdomain(name); len(errs) > 0 {
			t.Errorf("AddressName(%s) = %q is not an object name: %v", tt.addr, name, errs)
		}
		back, err := ParseAddressName(name)
		if want := addr.Unmap().WithZone(""); err != nil || back != want {
			t.Errorf("ParseAddressName(%q) = %v, %v, want %v", name, back, err, want)
		}
	}
	if got := AddressName(netip.Addr{}); got != "" {
		t.Errorf("AddressName of the zero Addr = %q", got)
	}
	for _, name := range []string{"", "lan", "192.0.2.256", "2001-db8--1", "2001:0db8:0000:0000:0000:0000:0000:0001", "2001-0DB8-0000-0000-0000-0000-0000-0001", "0000-0000-0000-0000-0000-ffff-c000-0201"} {
		if addr, err := ParseAddressName(name); err == nil {
			t.Errorf("ParseAddressName(%q) = %v, want an error", name, addr)
		}
	}
}

func FuzzAddressName(f *testing.F) {
	f.Add([]byte{192, 0, 2, 1})
	f.Add(netip.MustParseAddr("2001:db8::1").AsSlice())
	f.Fuzz(func(t *testing.T, b []byte) {
		addr, ok := netip.AddrFromSlice(b)
		if !ok {
			t.Skip()
		}
		if back, err := ParseAddressName(AddressName(addr)); err != nil || back != addr.Unmap() {
			t.Errorf("%v came back as %v, %v", addr, back, err)
		}
	})
}

func TestAddToScheme(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"AddressPool", "Address", "Announcement", "BGPPeer", "NodeState"} {
		for _, k := range []string{kind, kind + "List"} {
			if !scheme.Recognizes(GroupVersion.WithKind(k)) {
				t.Errorf("%s is not registered", k)
			}
		}
	}
}

// A status that nobody wrote is not sent: the API server would take its zero
// values for a report.
func TestZeroStatusIsAbsent(t *testing.T) {
	for _, obj := range []runtime.Object{&AddressPool{}, &Address{}, &Announcement{}, &BGPPeer{}, &NodeState{}} {
		data, err := json.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(data, &fields); err != nil {
			t.Fatal(err)
		}
		if _, ok := fields["status"]; ok {
			t.Errorf("%T is sent as %s", obj, data)
		}
	}
}
