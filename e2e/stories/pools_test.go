package stories

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/lab"
)

func poolManifest(name, addresses string) string {
	return fmt.Sprintf("apiVersion: fairlead.io/v1alpha1\nkind: AddressPool\nmetadata: {name: %s}\nspec: {addresses: [%q]}\n", name, addresses)
}

// A pool that cannot be is rejected, or marked with the reason, and a good pool
// goes on serving beside all of them.
func TestBadPoolIsRejectedOrMarkedWhileAnotherServes(t *testing.T) {
	cluster(t)
	electable(t)
	apply(t, six(t, "beside-1"))
	pods(t, "default", "app=beside-1", 3)
	vip := externalIP(t, "beside-1")
	forgotten(t, vip)
	served := "http://[" + vip + "]/"
	answersTo(t, lab.Client, served, 3)
	all, err := cluster(t).StartProbe(t.Context(), lab.Client, served, "-i=50ms")
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct{ name, addresses, says string }{
		{"a word", "elephants", "should match"},
		{"an octet of 300", "198.18.0.300/32", "not an IPv4 address, CIDR or range"},
		{"a prefix of 33", "198.18.0.192/33", "not an IPv4 address, CIDR or range"},
		{"five hex digits", "fd98:18::12345/128", "not an IPv6 address, CIDR or range"},
		{"both families in a range", "198.18.0.180-fd98:18::1", "both ends of a range must be of one family"},
		{"a reversed IPv4 range", "198.18.0.190-198.18.0.180", "the range ends before it begins"},
		{"IPv4 host bits", "198.18.0.181/28", "bits set beyond the prefix length"},
	} {
		t.Run("rejected: "+bad.name, func(t *testing.T) {
			out, err := kubectlInput(t.Context(), cluster(t), poolManifest("bad", bad.addresses), "apply", "-f", "-")
			if err == nil {
				kubectl(t, "delete", "addresspool", "bad")
				t.Fatalf("%s was accepted: %s", bad.addresses, out)
			}
			if !strings.Contains(out, bad.says) {
				t.Errorf("%s was rejected without %q: %s", bad.addresses, bad.says, out)
			}
		})
	}
	var marked []string
	undo(t, func(ctx context.Context) error {
		_, err := shared.Kubectl(ctx, append([]string{"delete", "addresspool", "--ignore-not-found"}, marked...)...)
		return err
	})
	for i, bad := range []struct{ name, addresses, reason, conflict, says string }{
		{"a reversed IPv6 range", "fd98:18::aaa-fd98:18::aa0", "PoolInvalid", "", "is reversed"},
		{"IPv6 host bits", "fd98:18::aa1/124", "PoolInvalid", "", "host bits set: write fd98:18::aa0/124"},
		{"addresses of an older pool", "198.18.0.240-198.18.0.252", "PoolConflicting", "OverlapsPool", "overlaps the older pool lan at 198.18.0.240"},
		{"IPv6 addresses of an older pool", "fd98:18::2f0/124", "PoolConflicting", "OverlapsPool", "overlaps the older pool lan at fd98:18::2f0"},
		{"pods' addresses", "198.18.129.128/25", "PoolConflicting", "OverlapsPods", "198.18.129.0/24"},
		{"Services' addresses", "198.19.255.0/24", "PoolConflicting", "OverlapsServices", "198.19.0.0/16"},
	} {
		pool := fmt.Sprintf("bad-%d", i)
		marked = append(marked, pool)
		t.Run("marked: "+bad.name, func(t *testing.T) {
			out, err := kubectlInput(t.Context(), cluster(t), poolManifest(pool, bad.addresses), "apply", "-f", "-")
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			eventually(t, settled, "condition Ready", func(ctx context.Context) error {
				return saysOf(ctx, "addresspool/"+pool, "Ready", "False", bad.reason, bad.says)
			})
			if bad.conflict != "" {
				eventually(t, settled, "condition Conflicting", func(ctx context.Context) error {
					return saysOf(ctx, "addresspool/"+pool, "Conflicting", "True", bad.conflict, bad.says)
				})
			}
		})
	}
	for i, skips := range []string{"198.18.0.12-198.18.0.15", "fd98:18::c-fd98:18::f"} {
		pool, first := fmt.Sprintf("nodes-%d", i), strings.Split(skips, "-")[0]
		marked = append(marked, pool)
		t.Run("nodes' addresses "+skips, func(t *testing.T) {
			if out, err := kubectlInput(t.Context(), cluster(t), poolManifest(pool, skips), "apply", "-f", "-"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			eventually(t, settled, "condition Conflicting", func(ctx context.Context) error {
				return saysOf(ctx, "addresspool/"+pool, "Conflicting", "True", "OverlapsNode", first)
			})
		})
	}
	t.Run("the good pool still gives addresses", func(t *testing.T) {
		if err := saysOf(t.Context(), "addresspool/lan", "Ready", "True", "PoolReady", ""); err != nil {
			t.Error(err)
		}
		apply(t, six(t, "beside-2"))
		pods(t, "default", "app=beside-2", 3)
		answersTo(t, lab.Client, "http://["+externalIP(t, "beside-2")+"]/", 3)
	})
	r, err := all.Stop()
	if err != nil {
		t.Fatal(err)
	}
	wantAll(t, r, 3)
}

// saysOf objects unless a condition of an object has a status, a reason, and
// words in its message.
func saysOf(ctx context.Context, object, condition, status, reason, words string) error {
	path := fmt.Sprintf(`jsonpath={.status.conditions[?(@.type==%q)].status} {.status.conditions[?(@.type==%q)].reason} {.status.conditions[?(@.type==%q)].message}`, condition, condition, condition)
	out, err := shared.Kubectl(ctx, "get", object, "-o", path)
	if err != nil {
		return err
	}
	if text := string(out); !strings.HasPrefix(text, status+" "+reason+" ") || !strings.Contains(text, words) {
		return fmt.Errorf("%s of %s is %q, want %s %s with %q", condition, object, text, status, reason, words)
	}
	return nil
}
