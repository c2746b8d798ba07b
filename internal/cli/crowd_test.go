package cli_test

import (
	"fmt"
	"strings"
	"testing"
)

// However many Services there are, status is one screen; doctor tells all.
func TestStatusIsOneScreen(t *testing.T) {
	w := newWorld(t)
	w.change(t, "apiVersion: fairlead.io/v1alpha1\nkind: AddressPool\nmetadata: {name: lan}\nspec: {addresses: [192.0.2.128/25]}\n")
	for i := range 100 {
		w.change(t, fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {namespace: shop, name: s%d, uid: uid-s%d}
spec: {type: LoadBalancer, clusterIP: 10.96.1.%d, clusterIPs: [10.96.1.%d], ports: [{port: 80}]}
---
apiVersion: fairlead.io/v1alpha1
kind: Address
metadata: {name: 192.0.2.%d, uid: uid-a%d}
spec: {address: 192.0.2.%d, pool: lan, holders: [{namespace: shop, name: s%d, uid: uid-s%d}]}
`, i, i, i+1, i+1, i+129, i, i+129, i, i)+"")
	}
	out := w.run(t, "status")
	if n := strings.Count(out, "\n"); n > 60 {
		t.Errorf("%d lines:\n%s", n, out)
	}
	for _, want := range []string{"more: -o wide shows all", "more of FL0210: fairlead doctor shows all"} {
		if !strings.Contains(out, want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
	if all := w.run(t, "doctor"); strings.Count(all, "FL0210") < 99 {
		t.Errorf("doctor tells of %d", strings.Count(all, "FL0210"))
	}
}
