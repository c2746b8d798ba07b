package door

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// OwnSecret is the Secret with the certificate that the controller makes.
const OwnSecret = "fairlead-page"

// KeepEvery is how often Keep is to be called.
const KeepEvery = time.Minute

// The certificate that the controller makes is good for 90 days, and is replaced 30 days
// before its end.
const (
	goodFor = 90 * 24 * time.Hour
	renewAt = 30 * 24 * time.Hour
)

// The label of the Secrets that the controller may write.
const (
	managedBy = "app.kubernetes.io/managed-by"
	ours      = "fairlead"
)

// Certificate keeps what the page proves its name with. All replicas have the same.
type Certificate struct {
	Client    kubernetes.Interface
	Namespace string
	// Secret of the type kubernetes.io/tls that somebody else keeps. "": the controller
	// makes OwnSecret, and renews it.
	Secret string
	// Names that the page is served under, beside this machine's own and those that the
	// certificate has.
	Names []string
	Log   *slog.Logger

	now atomic.Pointer[tls.Certificate]
}

// local are the names of this machine, for kubectl port-forward.
var local = []string{"localhost", "127.0.0.1", "::1"}

// Keep reads the Secret, and makes it if it is ours and not good any longer. One that
// cannot be read leaves the page the certificate that it has.
func (c *Certificate) Keep(ctx context.Context) error {
	if err := c.keep(ctx); err != nil {
		return fmt.Errorf("the page's certificate: %w", err)
	}
	return nil
}

func (c *Certificate) keep(ctx context.Context) error {
	name := c.Secret
	if name == "" {
		name = OwnSecret
	}
	secrets := c.Client.CoreV1().Secrets(c.Namespace)
	have, err := secrets.Get(ctx, name, metav1.GetOptions{})
	if c.Secret == "" && (apierrors.IsNotFound(err) || err == nil && !c.good(have)) {
		have, err = c.renew(ctx, have, apierrors.IsNotFound(err))
	}
	if err != nil {
		return fmt.Errorf("secret %s: %w", name, err)
	}
	pair, err := tls.X509KeyPair(have.Data[corev1.TLSCertKey], have.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return fmt.Errorf("secret %s: %w", name, err)
	}
	c.now.Store(&pair)
	return nil
}

// renew makes a certificate. Of replicas that do so at the same time one is the first, and
// the others take its Secret a minute later.
func (c *Certificate) renew(ctx context.Context, have *corev1.Secret, missing bool) (*corev1.Secret, error) {
	cert, key, err := c.make(time.Now())
	if err != nil {
		return nil, err
	}
	want := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: OwnSecret, Labels: map[string]string{managedBy: ours}}, Type: corev1.SecretTypeTLS}
	if !missing {
		if have.Labels[managedBy] != ours {
			return nil, fmt.Errorf("it has no certificate for this page, and no label %s: %s: delete it, or name it as controller.page.certificate", managedBy, ours)
		}
		want = have.DeepCopy()
	}
	want.Data = map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key}
	secrets := c.Client.CoreV1().Secrets(c.Namespace)
	if missing {
		want, err = secrets.Create(ctx, want, metav1.CreateOptions{})
	} else {
		want, err = secrets.Update(ctx, want, metav1.UpdateOptions{})
	}
	if err != nil {
		return nil, err
	}
	c.Log.Info("made a certificate for the page", "secret", OwnSecret)
	return want, nil
}

// good reports whether a Secret of ours can stay.
func (c *Certificate) good(s *corev1.Secret) bool {
	pair, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
	if err != nil || time.Until(pair.Leaf.NotAfter) < renewAt || time.Until(pair.Leaf.NotBefore) > 0 {
		return false
	}
	return !slices.ContainsFunc(c.names(), func(n string) bool { return pair.Leaf.VerifyHostname(n) != nil })
}

func (c *Certificate) names() []string { return slices.Concat(c.Names, local) }

// make returns a self-signed certificate and its key, in PEM.
func (c *Certificate) make(now time.Time) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, fmt.Errorf("make a serial number: %w", err)
	}
	// An hour: the clocks of a cluster differ.
	like := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: OwnSecret}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(goodFor),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	for _, n := range c.names() {
		if a, err := netip.ParseAddr(n); err == nil {
			like.IPAddresses = append(like.IPAddresses, a.AsSlice())
		} else {
			like.DNSNames = append(like.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, like, like, private.Public(), private)
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), nil
}

// errNone says that no Secret could be read yet.
var errNone = errors.New("the page has no certificate yet")

// Get returns the certificate for a connection.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if now := c.now.Load(); now != nil {
		return now, nil
	}
	return nil, errNone
}

// Serves reports whether a request may name host, with or without a port. A name that
// somebody else makes resolve to this page is not among them.
func (c *Certificate) Serves(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if slices.Contains(c.names(), host) {
		return true
	}
	now := c.now.Load()
	return host != "" && now != nil && now.Leaf.VerifyHostname(host) == nil
}

// Key returns the key that the page's cookies are sealed with: all replicas have the same,
// and it changes with the certificate's.
func (c *Certificate) Key() ([]byte, error) {
	now := c.now.Load()
	if now == nil {
		return nil, errNone
	}
	der, err := x509.MarshalPKCS8PrivateKey(now.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("the page's key: %w", err)
	}
	key, err := hkdf.Key(sha256.New, der, nil, "cookies of the fairlead page", 32)
	if err != nil {
		return nil, fmt.Errorf("the page's key: %w", err)
	}
	return key, nil
}
