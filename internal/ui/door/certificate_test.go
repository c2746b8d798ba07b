package door

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func certificate(client *fake.Clientset, secret string) *Certificate {
	return &Certificate{Client: client, Namespace: "ns", Secret: secret, Names: []string{"fairlead-controller-page.ns.svc", "page.example.com"}, Log: slog.New(slog.DiscardHandler)}
}

func leaf(t *testing.T, c *Certificate) *x509.Certificate {
	t.Helper()
	pair, err := c.Get(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

// The controller makes a certificate, all replicas have the same, and it is renewed before
// its end.
func TestOwnCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		a, b := certificate(client, ""), certificate(client, "")
		if _, err := a.Get(nil); err == nil {
			t.Error("there is a certificate before the first Keep")
		}
		if _, err := a.Key(); err == nil {
			t.Error("there is a key before the first Keep")
		}
		keep := func() {
			t.Helper()
			for _, c := range []*Certificate{a, b} {
				if err := c.Keep(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			ka, _ := a.Key()
			kb, _ := b.Key()
			if !leaf(t, a).Equal(leaf(t, b)) || !bytes.Equal(ka, kb) || len(ka) != 32 {
				t.Error("the replicas' certificates differ")
			}
		}
		keep()
		first := leaf(t, a)
		for _, name := range []string{"localhost", "127.0.0.1", "::1", "fairlead-controller-page.ns.svc", "page.example.com"} {
			if err := first.VerifyHostname(name); err != nil {
				t.Error(err)
			}
		}
		if got := time.Until(first.NotAfter); got != goodFor || first.IsCA {
			t.Errorf("it is good for %v, an authority: %v", got, first.IsCA)
		}
		time.Sleep(goodFor - renewAt)
		keep()
		if !leaf(t, a).Equal(first) {
			t.Error("it is renewed too early")
		}
		time.Sleep(time.Second)
		keep()
		second := leaf(t, a)
		if second.Equal(first) {
			t.Error("it is not renewed")
		}
		a.Names = append(a.Names, "new.example.com")
		b.Names = a.Names
		keep()
		if leaf(t, a).Equal(second) || leaf(t, a).VerifyHostname("new.example.com") != nil {
			t.Error("a new name is not in it")
		}
	})
}

// Which Secrets are written, and which names a request may have.
func TestCertificateOfOthers(t *testing.T) {
	made := certificate(fake.NewClientset(), "")
	cert, key, err := made.make(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	secret := func(name string, data map[string][]byte) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Type: corev1.SecretTypeTLS, Data: data}
	}
	client := fake.NewClientset(secret("given", map[string][]byte{"tls.crt": cert, "tls.key": key}), secret("broken", nil), secret(OwnSecret, map[string][]byte{"tls.crt": []byte("x")}))
	for name, want := range map[string]string{"given": "", "broken": "secret broken", "missing": `"missing" not found`, "": "no label"} {
		c := certificate(client, name)
		if err := c.Keep(t.Context()); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
	for _, a := range client.Actions() {
		if a.GetVerb() != "get" {
			t.Errorf("the Secret of others gets %s", a.GetVerb())
		}
	}
	c := certificate(client, "given")
	c.Names = []string{"named.example.com"}
	if err := c.Keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"named.example.com": true, "page.example.com:8443": true, "PAGE.example.com": true, "localhost:1": true, "[::1]:8443": true, "127.0.0.1": true,
		"evil.example": false, "evil.example:443": false, "10.0.0.1": false, "": false, ":443": false, "page.example.com.evil.example": false,
	} {
		if got := c.Serves(host); got != want {
			t.Errorf("%q is served: %v", host, got)
		}
	}
	// A Secret that goes away leaves what there is.
	if err := client.CoreV1().Secrets("ns").Delete(t.Context(), "given", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Keep(t.Context()); err == nil || !c.Serves("page.example.com") {
		t.Errorf("%v", err)
	}
}
