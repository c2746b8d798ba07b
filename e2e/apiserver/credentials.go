package apiserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
)

// writeCredentials makes the key that signs service account tokens, the
// administrator's token and the kubeconfig with it. It returns the file of
// tokens.
func (s *Server) writeCredentials(port int) (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return "", err
	}
	token := rand.Text()
	type object = map[string]any
	config, err := json.Marshal(object{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []object{{"name": "test", "cluster": object{
			"server": fmt.Sprintf("https://127.0.0.1:%d", port), "insecure-skip-tls-verify": true,
		}}},
		"users":    []object{{"name": "test", "user": object{"token": token}}},
		"contexts": []object{{"name": "test", "context": object{"cluster": "test", "user": "test"}}},
	})
	if err != nil {
		return "", err
	}
	for name, data := range map[string][]byte{
		"accounts.key":     pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
		"tokens.csv":       []byte(token + `,admin,admin,"system:masters"` + "\n"),
		"admin.kubeconfig": config,
	} {
		if err := os.WriteFile(s.file(name), data, 0o600); err != nil {
			return "", err
		}
	}
	return s.file("tokens.csv"), nil
}
