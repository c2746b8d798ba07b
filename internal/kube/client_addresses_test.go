package kube

import (
	"fmt"
	"testing"
)

// Of the URLs of API servers, those with an address name it.
func TestAccessAddresses(t *testing.T) {
	a := Access{Servers: []string{"https://192.0.2.100:6443", "https://api.example.org:6443", "https://[2001:db8::100]:6443", ":"}}
	if got := fmt.Sprint(a.Addresses()); got != "[192.0.2.100 2001:db8::100]" {
		t.Errorf("the addresses are %s", got)
	}
}
