package kube

import "testing"

func TestResourceOf(t *testing.T) {
	for path, want := range map[string]string{
		"/api/v1/namespaces/a/services":                                     "services",
		"/api/v1/namespaces/a/services/web":                                 "services",
		"/api/v1/namespaces/a/services/web/status":                          "services/status",
		"/api/v1/namespaces/a":                                              "namespaces",
		"/api/v1/namespaces/a/status":                                       "namespaces/status",
		"/apis/fairlead.io/v1alpha1/addresses/192.0.2.1":                    "addresses",
		"/apis/fairlead.io/v1alpha1/addresspools/lan/status":                "addresspools/status",
		"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/leader": "leases",
		"/version": "",
	} {
		if got := resourceOf(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
