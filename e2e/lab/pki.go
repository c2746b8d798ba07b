package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority signs the certificates of one lab.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// identity is a certificate with its key, both PEM.
type identity struct{ cert, key []byte }

const lifetime = 365 * 24 * time.Hour

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := certificate("fairlead lab")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key, pem: encode("CERTIFICATE", der)}, nil
}

func certificate(name string, groups ...string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: groups},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(lifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
}

// issue signs template for a new key.
func (a *authority) issue(template *x509.Certificate) (identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return identity{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return identity{}, fmt.Errorf("issue %s: %w", template.Subject.CommonName, err)
	}
	keyPEM, err := encodeKey(key)
	return identity{cert: encode("CERTIFICATE", der), key: keyPEM}, err
}

// server is the identity of the API server, under every name it is called by.
func (a *authority) server() (identity, error) {
	t := certificate("kube-apiserver")
	t.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	for _, ip := range []string{APIHost, lanAddress(controlNumber).bare().v6, kubernetesIPv4, kubernetesIPv6, "127.0.0.1", "::1"} {
		t.IPAddresses = append(t.IPAddresses, net.ParseIP(ip))
	}
	return a.issue(t)
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return encode("PRIVATE KEY", der), nil
}

// clients are the identities that get a kubeconfig, by its file name: user,
// then groups.
func (l *Lab) clients() map[string][]string {
	list := map[string][]string{
		"admin":              {"admin", "system:masters"},
		"controller-manager": {"system:kube-controller-manager"},
		"scheduler":          {"system:kube-scheduler"},
		"proxy":              {"system:kube-proxy"},
	}
	for _, n := range l.nodes {
		list[n.name] = []string{"system:node:" + n.name, "system:nodes"}
	}
	return list
}

// writePKI makes all keys and certificates of the lab, and the kubeconfigs.
func (l *Lab) writePKI() error {
	ca, err := newAuthority()
	if err != nil {
		return err
	}
	files, err := ca.files()
	if err != nil {
		return err
	}
	for name, who := range l.clients() {
		id, err := ca.issue(certificate(who[0], who[1:]...))
		if err != nil {
			return err
		}
		files[name+".kubeconfig"] = kubeconfig(ca.pem, id)
	}
	for name, data := range files {
		if err := os.WriteFile(l.pki(name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// files are the authority itself and the identities of the control plane.
func (a *authority) files() (map[string][]byte, error) {
	key, err := encodeKey(a.key)
	if err != nil {
		return nil, err
	}
	server, err := a.server()
	if err != nil {
		return nil, err
	}
	kubeletClient, err := a.issue(certificate("kube-apiserver-kubelet-client", "system:masters"))
	if err != nil {
		return nil, err
	}
	accounts, err := a.issue(certificate("service-accounts"))
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		"ca.crt": a.pem, "ca.key": key,
		"apiserver.crt": server.cert, "apiserver.key": server.key,
		"kubelet-client.crt": kubeletClient.cert, "kubelet-client.key": kubeletClient.key,
		"service-accounts.crt": accounts.cert, "service-accounts.key": accounts.key,
	}, nil
}

func (l *Lab) pki(name string) string { return filepath.Join(l.state.file("pki"), name) }

// kubeconfig is JSON, which every reader of YAML reads.
func kubeconfig(ca []byte, id identity) []byte {
	type object = map[string]any
	b64 := base64.StdEncoding.EncodeToString
	data, _ := json.MarshalIndent(object{
		"apiVersion": "v1", "kind": "Config", "current-context": "lab",
		"clusters": []object{{"name": "lab", "cluster": object{
			"server":                     fmt.Sprintf("https://%s:%d", APIHost, APIPort),
			"certificate-authority-data": b64(ca),
		}}},
		"users": []object{{"name": "lab", "user": object{
			"client-certificate-data": b64(id.cert), "client-key-data": b64(id.key),
		}}},
		"contexts": []object{{"name": "lab", "context": object{"cluster": "lab", "user": "lab"}}},
	}, "", "  ")
	return data
}
