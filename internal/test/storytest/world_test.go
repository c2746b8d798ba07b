package storytest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/test/storytest"
)

// TestErrors: a line that cannot be read fails, and names what is wrong.
func TestErrors(t *testing.T) {
	for line, want := range map[string]string{
		"service a/web colour=red":        `no attribute "colour"`,
		"service web":                     `"web" is not NAMESPACE/NAME`,
		"service a/web policy=Both":       `no policy "Both"`,
		"service a/web families=5":        `no family "5"`,
		"service a/web ports=icmp/1":      `no protocol "icmp"`,
		"endpoint a/web 10.1.1.1:80":      `there is no Service "a/web"`,
		"delete pool lan":                 "there is no pool lan",
		"recreate service a/web":          "there is no service a/web",
		"cow bella":                       "want a kind and a name",
		`pool lan 192.0.2.0/30 bad="open`: "invalid syntax",
	} {
		if err := storytest.NewWorld().Do(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", line, err, want)
		}
	}
}

// TestServiceDefaults: what a Service is if a line says nothing but its name,
// and which families and cluster IPs follow from what it says.
func TestServiceDefaults(t *testing.T) {
	for attributes, want := range map[string]string{
		"":                            "LoadBalancer [tcp/80] SingleStack [IPv4] [10.96.0.10]",
		"type=ClusterIP":              "ClusterIP [tcp/80] SingleStack [IPv4] [10.96.0.10]",
		"ports=udp/53,sctp/99":        "LoadBalancer [udp/53 sctp/99] SingleStack [IPv4] [10.96.0.10]",
		"ip=fd00:96::1":               "LoadBalancer [tcp/80] SingleStack [IPv6] [fd00:96::1]",
		"ip=none":                     "LoadBalancer [tcp/80] SingleStack [IPv4] []",
		"headless":                    "LoadBalancer [tcp/80] SingleStack [IPv4] []",
		"families=6":                  "LoadBalancer [tcp/80] SingleStack [IPv6] [fd00::10]",
		"policy=Prefer":               "LoadBalancer [tcp/80] PreferDualStack [IPv4 IPv6] [10.96.0.10 fd00::10]",
		"policy=Require ip=10.96.0.1": "LoadBalancer [tcp/80] RequireDualStack [IPv4] [10.96.0.1]",
	} {
		w := storytest.NewWorld()
		if err := w.Do("service a/web " + attributes); err != nil {
			t.Fatal(err)
		}
		s, err := w.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		svc := s.Services[0]
		var ports []string
		for _, p := range svc.Ports {
			ports = append(ports, fmt.Sprintf("%s/%d", p.Protocol, p.Port))
		}
		if got := fmt.Sprintf("%s %v %s %v %v", svc.Type, ports, svc.FamilyPolicy, svc.Families, svc.ClusterIPs); got != want {
			t.Errorf("%s: got %s, want %s", attributes, got, want)
		}
	}
}

// TestMadeAgain: what is deleted and made again, in one line or two, is younger
// and has another UID, so that it holds nothing.
func TestMadeAgain(t *testing.T) {
	for _, again := range []string{"recreate service a/web", "delete service a/web\nservice a/web key=K"} {
		w := storytest.NewWorld()
		if err := w.Do("service a/web key=K held=192.0.2.1\nservice a/other\n"); err != nil {
			t.Fatal(err)
		}
		before, _ := w.Snapshot()
		if err := w.Do(again); err != nil {
			t.Fatal(err)
		}
		after, _ := w.Snapshot()
		was, is, rec := before.Services[1], after.Services[1], after.Addresses[0]
		if !rec.Held(was.Ref, was.UID) || rec.Held(is.Ref, is.UID) || rec.ShareKey != "K" {
			t.Errorf("%s: the record is %+v", again, rec)
		}
		if len(was.Ingress) != 1 || len(is.Ingress) != 0 || len(is.Annotations) != 1 || !is.Created.After(after.Services[0].Created) {
			t.Errorf("%s: got %+v of %+v", again, is, was)
		}
	}
}
