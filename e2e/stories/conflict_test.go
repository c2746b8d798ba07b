package stories

import (
	"context"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/lab"
)

// macOf returns the MAC address of a host's eth0. Not from /sys, which shows another
// network namespace.
func macOf(t *testing.T, host string) string {
	t.Helper()
	out, err := cluster(t).Exec(t.Context(), host, "ip", "-oneline", "link", "show", "eth0")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(out), "link/ether ")
	mac, _, _ := strings.Cut(rest, " ")
	return mac
}

// An address that a host outside of the cluster has is not announced, in either
// family: the Service's condition and an Event name the host. It is announced
// once the host has let go and the address is assigned again.
func TestAddressOfAForeignHostIsNotAnnounced(t *testing.T) {
	l := cluster(t)
	on := func(ctx context.Context, verb, addr string) error {
		args := []string{"ip", "addr", verb, addr, "dev", "eth0"}
		if verb == "add" && strings.Contains(addr, ":") {
			args = append(args, "nodad")
		}
		_, err := l.Exec(ctx, lab.Client, args...)
		return err
	}
	theirs := []string{"198.18.0.245/32", "fd98:18::2f5/128"}
	has := false
	letGo := func(ctx context.Context) (err error) {
		for _, addr := range theirs {
			if has && err == nil {
				err = on(ctx, "del", addr)
			}
		}
		has = false
		return err
	}
	undo(t, letGo)
	for _, addr := range theirs {
		if err := on(t.Context(), "add", addr); err != nil {
			t.Fatal(err)
		}
	}
	has = true
	mac := macOf(t, lab.Client)

	contested := manifests(t, "contested.yaml")
	apply(t, contested)
	if vip := externalIP(t, "contested"); vip != "198.18.0.245" {
		t.Fatalf("the address is %s", vip)
	}
	for _, addr := range []string{"198.18.0.245", "fd98:18::2f5"} {
		eventually(t, settled, "the conflict of "+addr, func(ctx context.Context) error {
			return saysOf(ctx, "service/contested", "fairlead.io/Announced", "False", "AddressConflict", addr+", because another device on the network has it ("+mac+")")
		})
	}
	for _, record := range []string{"198.18.0.245", "fd98-0018-0000-0000-0000-0000-0000-02f5"} {
		if got := kubectl(t, "get", "address", record, "-o", "jsonpath={.status.conflict}"); got != mac {
			t.Errorf("the conflict of %s is %q, want %s", record, got, mac)
		}
	}
	if got := kubectl(t, "get", "events", "--field-selector=involvedObject.name=contested,reason=AddressConflict", "-o", "name"); got == "" {
		t.Error("no Event tells of the conflict")
	}

	if err := letGo(t.Context()); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "delete", "service", "contested")
	if out, err := kubectlInput(t.Context(), l, contested, "apply", "-f", "-"); err != nil {
		t.Fatalf("apply: %v: %s", err, out)
	}
	eventually(t, settled, "both are announced", func(ctx context.Context) error {
		return saysOf(ctx, "service/contested", "fairlead.io/Announced", "True", "Announced", "fd98:18::2f5")
	})
	answersTo(t, lab.Client, "http://198.18.0.245/", 1)
	answersTo(t, lab.Client, "http://[fd98:18::2f5]/", 1)
	if got := kubectl(t, "get", "address", "198.18.0.245", "-o", "jsonpath={.status.probedAt}"); got == "" {
		t.Error("the record does not say that the address was probed")
	}
}
