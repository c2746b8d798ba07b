package stories

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/lab"
)

// asking returns a Service with annotations.
func asking(t *testing.T, annotations string) string {
	t.Helper()
	return strings.Replace(manifests(t, "asking.yaml"), "annotations: {}", "annotations: {"+annotations+"}", 1)
}

// A Service that asks for what it cannot have gets nothing; its Event and its
// condition say which and why, other Services notice nothing, and once it asks
// for something that it can have it gets that.
func TestServiceThatAsksForTheImpossibleIsToldWhyAndOthersAreNot(t *testing.T) {
	l := cluster(t)
	electable(t)
	apply(t, six(t, "beside"))
	pods(t, "default", "app=beside", 3)
	held := externalIP(t, "beside")
	forgotten(t, held)
	served := "http://[" + held + "]/"
	answersTo(t, lab.Client, served, 3)
	all, err := l.StartProbe(t.Context(), lab.Client, served, "-i=50ms")
	if err != nil {
		t.Fatal(err)
	}
	apply(t, strings.Replace(asking(t, `fairlead.io/addresses: "198.18.0.222"`), "name: asking", "name: holder", 1))
	if ip := externalIP(t, "holder"); ip != "198.18.0.222" {
		t.Errorf("the holder asked for 198.18.0.222 and has %s", ip)
	}
	for _, bad := range []struct{ name, annotation, reason, says string }{
		{"an address outside every pool", `fairlead.io/addresses: "192.0.2.1"`, "OutsidePools", "192.0.2.1"},
		{"an address of the wrong family", `fairlead.io/addresses: "fd98:18::222"`, "WrongFamily", "fd98:18::222"},
		{"an address that another Service has", `fairlead.io/addresses: "198.18.0.222"`, "AddressInUse", "default/holder"},
		{"garbage for an address", `fairlead.io/addresses: "elephants"`, "InvalidRequest", "elephants"},
		{"half an address", `fairlead.io/addresses: "198.18.0"`, "InvalidRequest", "198.18.0"},
		{"an address with a space in it", `fairlead.io/addresses: "198.18.0. 223"`, "InvalidRequest", "198.18.0. 223"},
		{"a pool that is not there", `fairlead.io/pool: "elephants"`, "PoolNotFound", "elephants"},
		{"an address and a pool that is not its own", `fairlead.io/addresses: "198.18.0.223", fairlead.io/pool: "elephants"`, "PoolNotFound", "elephants"},
	} {
		t.Run(bad.name, func(t *testing.T) {
			apply(t, asking(t, bad.annotation))
			eventually(t, settled, "condition of the Service", func(ctx context.Context) error {
				return saysOf(ctx, "service/asking", "fairlead.io/AddressAssigned", "False", bad.reason, bad.says)
			})
			uid := kubectl(t, "get", "service", "asking", "-o", "jsonpath={.metadata.uid}")
			eventually(t, settled, "Event of the Service", func(ctx context.Context) error {
				return eventSays(ctx, uid, "Warning", bad.reason, bad.says)
			})
			if ip := kubectl(t, "get", "service", "asking", "-o", "jsonpath={.status.loadBalancer.ingress}"); ip != "" {
				t.Errorf("it has an address all the same: %s", ip)
			}
			kubectl(t, "annotate", "service", "asking", "fairlead.io/pool-", "fairlead.io/addresses=198.18.0.223", "--overwrite")
			if ip := externalIP(t, "asking"); ip != "198.18.0.223" {
				t.Errorf("corrected, it asked for 198.18.0.223 and has %s", ip)
			}
			if err := saysOf(t.Context(), "service/asking", "fairlead.io/AddressAssigned", "True", "Assigned", "198.18.0.223"); err != nil {
				t.Error(err)
			}
			answersTo(t, lab.Client, "http://198.18.0.223/", 3)
		})
	}
	r, err := all.Stop()
	if err != nil {
		t.Fatal(err)
	}
	wantAll(t, r, 3)
	for service, ip := range map[string]string{"beside": held, "holder": "198.18.0.222"} {
		if now := externalIP(t, service); now != ip {
			t.Errorf("%s had %s and has %s", service, ip, now)
		}
	}
}

// eventSays objects unless the Service with uid has an Event of a type and a
// reason, with words in its message.
func eventSays(ctx context.Context, uid, kind, reason, words string) error {
	out, err := shared.Kubectl(ctx, "get", "events", "--field-selector=involvedObject.uid="+uid,
		`-o=jsonpath={range .items[*]}{.type} {.reason} {.message}{"\n"}{end}`)
	if err != nil {
		return err
	}
	lines := strings.Split(string(out), "\n")
	if !slices.ContainsFunc(lines, func(line string) bool {
		return strings.HasPrefix(line, kind+" "+reason+" ") && strings.Contains(line, words)
	}) {
		return fmt.Errorf("no %s %s with %q among %q", kind, reason, words, lines)
	}
	return nil
}
