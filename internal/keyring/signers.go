package keyring

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// DataSigners is the key in the Secret's data that holds the Signers.
const DataSigners = "signers"

// mostSigners bounds how many nodes' keys are read. A Secret has room for 10,000.
const mostSigners = 10_000

// Signers are the public keys that the agents of nodes sign their reports with, by node.
// The controller takes them from the NodeStates, which only the agent of the node may
// write, and gives them to all agents in the Secret, which no agent may write. A node
// that is not among them does not sign.
type Signers map[string]ed25519.PublicKey

// SignersOf returns the keys of the nodes of s.
func SignersOf(s *snapshot.Snapshot) Signers {
	out := Signers{}
	for _, n := range s.Nodes {
		if st := s.NodeState(n.Name); st != nil {
			out.Set(n.Name, st.ReportKey)
		}
	}
	return out
}

// Set takes in the key that the NodeState of a node has. The node does not sign if that is
// not a key.
func (s Signers) Set(node, key string) {
	delete(s, node)
	if public, err := parsePublic([]byte(key)); err == nil {
		s[node] = public
	}
}

// PublicOf returns the public half of a key as a NodeState has it; "" for none.
func PublicOf(key ed25519.PrivateKey) string {
	if len(key) != ed25519.PrivateKeySize {
		return ""
	}
	return base64.StdEncoding.EncodeToString(key[ed25519.SeedSize:]) // the second half, RFC 8032
}

// ParseSigners reads what Format wrote: a line for each node, its name and its key. No
// text at all is nil: the controller is older than this. It refuses the whole text for one line
// that is something else.
func ParseSigners(text []byte) (Signers, error) {
	if text == nil {
		return nil, nil
	}
	out := Signers{}
	for line := range bytes.Lines(text) {
		node, key, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		public, err := parsePublic(key)
		if !ok || err != nil {
			return nil, errors.New("a line is not a node and its key")
		}
		if out[string(node)] = public; len(out) > mostSigners {
			return nil, fmt.Errorf("there are more than %d nodes", mostSigners)
		}
	}
	return out, nil
}

// Format is the inverse of ParseSigners. The nodes are sorted.
func (s Signers) Format() []byte {
	b := []byte{} // not nil: nobody signs
	for _, node := range slices.Sorted(maps.Keys(s)) {
		b = fmt.Appendf(b, "%s %s\n", node, base64.StdEncoding.EncodeToString(s[node]))
	}
	return b
}

func parsePublic(text []byte) (ed25519.PublicKey, error) {
	key, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, errors.New("not a public key")
	}
	return key, nil
}
