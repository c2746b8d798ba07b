package allocator

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// TestCoolDown: an address that is free again goes to its former namespace, and to
// another one only if nothing else is left, until the pool's coolDown is over.
func TestCoolDown(t *testing.T) {
	began := time.Unix(1_000_000, 0)
	addr := netip.MustParseAddr("192.0.2.0")
	service := func(ref string) *snapshot.Service {
		namespace, name, _ := strings.Cut(ref, "/")
		return &snapshot.Service{
			Ref: snapshot.Ref{Namespace: namespace, Name: name}, UID: ref, Type: snapshot.LoadBalancer, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")},
		}
	}
	for _, tc := range []struct {
		name     string
		size     int // of the pool
		freed    time.Duration
		holder   bool // the record still names the Service that is gone
		services []string
		want     string // Services and records
		again    time.Duration
	}{
		{"noted when the holder is gone", 2, 0, true, nil, "192.0.2.0 a 0s; ", 10 * time.Minute},
		{"others get another one", 2, time.Minute, false, []string{"b/web"}, "assign b/web 192.0.2.1 pool=lan; 192.0.2.0 a 1m0s; 192.0.2.1 ; ", 9 * time.Minute},
		{"others get another one at once", 2, 0, true, []string{"b/web"}, "assign b/web 192.0.2.1 pool=lan; release a/gone 192.0.2.0; 192.0.2.0 a 0s; 192.0.2.1 ; ", 10 * time.Minute},
		{"its namespace gets it", 2, time.Minute, false, []string{"a/web"}, "assign a/web 192.0.2.0 pool=lan; 192.0.2.0 ; ", 0},
		{"others get it if there is no other", 1, time.Minute, false, []string{"b/web"}, "assign b/web 192.0.2.0 pool=lan; 192.0.2.0 ; ", 0},
		{"it has cooled down", 2, 10 * time.Minute, false, []string{"b/web"}, "assign b/web 192.0.2.0 pool=lan; 192.0.2.0 ; ", 0},
		{"and nobody wants it", 2, 10 * time.Minute, false, nil, "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			record := &snapshot.Address{Addr: addr, Pool: "lan", Freed: snapshot.Freed{Namespace: "a", At: began.Add(-tc.freed)}}
			if tc.holder {
				record.Freed, record.Holders = snapshot.Freed{}, []snapshot.Holder{{Ref: service("a/gone").Ref, UID: "a/gone"}}
			}
			last := addr
			for range tc.size - 1 {
				last = last.Next()
			}
			s := &snapshot.Snapshot{
				Pools:     []*snapshot.Pool{{Name: "lan", AutoAssign: true, CoolDown: 10 * time.Minute, Ranges: []netipx.IPRange{netipx.IPRangeFrom(addr, last)}}},
				Addresses: []*snapshot.Address{record},
			}
			for _, ref := range tc.services {
				s.Services = append(s.Services, service(ref))
			}
			p := Decide(s, Options{DefaultClass: true, Now: began})
			got := strings.ReplaceAll(p.String(), "\n", "; ")
			for _, a := range p.Addresses {
				got += a.Addr.String() + " "
				if len(a.Holders) == 0 {
					got += fmt.Sprint(a.Freed.Namespace, " ", began.Sub(a.Freed.At))
				}
				got += "; "
			}
			if !tc.holder || len(tc.services) > 0 {
				if got != tc.want {
					t.Errorf("got  %s\nwant %s", got, tc.want)
				}
			} else if !strings.HasSuffix(got, tc.want) {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			again := time.Duration(0)
			if !p.Again.IsZero() {
				again = p.Again.Sub(began)
			}
			if again != tc.again {
				t.Errorf("again in %s, want %s", again, tc.again)
			}
		})
	}
}
