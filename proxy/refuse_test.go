package proxy_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/test/storytest"
	"github.com/fairlead/fairlead/proxy"
)

// A Service with an endpoint that is refused says so, once, and until it has none.
func TestRefusedEndpointsAreTold(t *testing.T) {
	world := storytest.NewWorld()
	do := func(text string) {
		t.Helper()
		if err := world.Do(text); err != nil {
			t.Fatal(err)
		}
	}
	do("node a ips=198.51.100.1 pods=10.1.1.0/24\n" +
		"service default/web type=ClusterIP ip=10.96.0.1,fd00:96::1 ports=tcp/80,tcp/81\n" +
		"endpoint default/web 10.1.1.2:80 node=a\n")
	var c proxy.Compiler
	said := func() string {
		t.Helper()
		s, err := world.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		c.Compile(s, "a", nil, proxy.Options{Refused: append([]netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, proxy.MetadataServices...)})
		var out []string
		for _, p := range c.Problems() {
			out = append(out, p.Service.String()+" "+string(p.Reason)+" "+p.Message)
		}
		return strings.Join(out, "\n")
	}
	if got := said(); got != "" {
		t.Errorf("without a refused endpoint: %s", got)
	}
	for _, addr := range []string{"127.0.0.1", "169.254.169.254", "168.63.129.16", "203.0.113.7", "fd00:ec2::254", "fd20:ce::254", "fe80::1"} {
		at := netip.AddrPortFrom(netip.MustParseAddr(addr), 80).String()
		do("endpoint default/web " + at)
		want := "default/web EndpointRefused no connection goes to the endpoint " + addr + ": "
		if got := said(); !strings.HasPrefix(got, want) || strings.Contains(got, "\n") {
			t.Errorf("%s: %q", addr, got)
		}
		do("delete endpoint default/web " + at)
	}
	if got := said(); got != "" {
		t.Errorf("without one again: %s", got)
	}
}
