package proxy_test

import (
	"fmt"
	"testing"

	"github.com/fairlead/fairlead/proxy"
)

func TestParseLocal(t *testing.T) {
	for text, want := range map[string]string{
		"auto":                                 "{false [] }",
		"node-cidr":                            "{true [] }",
		"cluster-cidr=10.244.0.1/16,fd00::/48": "{false [10.244.0.0/16 fd00::/48] }",
		"interface-prefix=cali":                "{false [] cali*}",
		"bridge=cni0":                          "{false [] cni0}",
		"":                                     "error",
		"bridge":                               "error",
		"bridge=a-name-of-16-bytes":            "error",
		"interface-prefix=cali*":               "error",
		"cluster-cidr=10.244.0.0":              "error",
		"cluster-cidr":                         "error",
	} {
		l, err := proxy.ParseLocal(text)
		got := fmt.Sprint(l)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}
