package link

import (
	"net/netip"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
)

func TestAnnounced(t *testing.T) {
	const hour = 60 * 60 * 100
	at := func(link, addr string, flags, preferred, stamp uint32) selfMade {
		return selfMade{link: link, addr: netip.MustParsePrefix(addr), flags: flags, preferred: preferred, stamp: stamp}
	}
	sees := func(link, prefix string, deprecated bool) snapshot.LinkPrefix {
		return snapshot.LinkPrefix{Link: link, Prefix: netip.MustParsePrefix(prefix), Deprecated: deprecated}
	}
	for _, c := range []struct {
		name  string
		addrs []selfMade
		want  []snapshot.LinkPrefix
	}{
		{"none", nil, nil},
		{"a global and a unique local one", []selfMade{at("eth0", "fd00::5/64", 0, 9, 1), at("eth0", "2001:db8::5/64", 0, 9, 1)},
			[]snapshot.LinkPrefix{sees("eth0", "2001:db8::/64", false), sees("eth0", "fd00::/64", false)}},
		{"by link", []selfMade{at("eth1", "2001:db8::5/64", 0, 9, 1), at("eth0", "2001:db8:1::5/64", 0, 9, 1)},
			[]snapshot.LinkPrefix{sees("eth0", "2001:db8:1::/64", false), sees("eth1", "2001:db8::/64", false)}},
		{"what no router announces", []selfMade{
			at("eth0", "2001:db8::5/64", unix.IFA_F_PERMANENT, 9, 1), at("eth0", "2001:db8::6/128", 0, 9, 1), at("eth0", "fe80::1/64", 0, 9, 1), at("eth0", "2001:db8::7/64", unix.IFA_F_DADFAILED, 9, 1),
		}, nil},
		{"let go", []selfMade{at("eth0", "2001:db8::5/64", unix.IFA_F_DEPRECATED, 0, 1)}, []snapshot.LinkPrefix{sees("eth0", "2001:db8::/64", true)}},
		{"a temporary address is deprecated, its prefix is not", []selfMade{at("eth0", "2001:db8::aaaa/64", unix.IFA_F_TEMPORARY|unix.IFA_F_DEPRECATED, 0, 1), at("eth0", "2001:db8::5/64", 0, 9, 1)},
			[]snapshot.LinkPrefix{sees("eth0", "2001:db8::/64", false)}},
		{"the router came back with another one, without a word of the first", []selfMade{at("eth0", "2001:db8::5/64", 0, 9, 1), at("eth0", "2001:db8:1::5/64", 0, 9, hour+2)},
			[]snapshot.LinkPrefix{sees("eth0", "2001:db8::/64", true), sees("eth0", "2001:db8:1::/64", false)}},
		{"the counter wraps", []selfMade{at("eth0", "2001:db8::5/64", 0, 9, 0xffffff00), at("eth0", "2001:db8:1::5/64", 0, 9, 200)},
			[]snapshot.LinkPrefix{sees("eth0", "2001:db8::/64", false), sees("eth0", "2001:db8:1::/64", false)}},
		{"another link was heard later", []selfMade{at("eth0", "2001:db8::5/64", 0, 9, 1), at("eth1", "2001:db8:1::5/64", 0, 9, hour+2)},
			[]snapshot.LinkPrefix{sees("eth0", "2001:db8::/64", false), sees("eth1", "2001:db8:1::/64", false)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := announced(c.addrs); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
