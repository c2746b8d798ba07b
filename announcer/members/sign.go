package members

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/fairlead/fairlead/announcer"
)

// signContext is what a signature is of, before the report: the key signs nothing else.
const signContext = "fairlead report\x00"

// maxJump is how much higher than the last version an unsigned report of a node may be. An
// agent that says something new five times a second reaches it in 27 years.
const maxJump = 1 << 32

// maxForged is how many reports of one exchange may have wrong signatures before the rest
// is not read. An agent hands on only what it believes, so an honest exchange has wrong
// ones only while keys change.
const maxForged = 16

var errForged = errors.New("a report is not its node's")

// signed returns r with the signature of key behind it; r itself without a key.
func signed(r announcer.Report, key ed25519.PrivateKey) announcer.Report {
	if key != nil {
		r.Later = string(append([]byte(r.Later), ed25519.Sign(key, toSign(r))...))
	}
	return r
}

// signedBy reports whether r ends in the signature of key.
func signedBy(r announcer.Report, key ed25519.PublicKey) bool {
	at := len(r.Later) - ed25519.SignatureSize
	if at < 0 || len(key) != ed25519.PublicKeySize {
		return false
	}
	signature := []byte(r.Later[at:])
	r.Later = r.Later[:at]
	return ed25519.Verify(key, toSign(r), signature)
}

func toSign(r announcer.Report) []byte { return append([]byte(signContext), encode(r)...) }

// SetSigners takes in the public keys of nodes, by their names. Of such a node a report
// counts if the key signed it. Keys may be given again. The map is kept.
func (m *Members) SetSigners(keys map[string]ed25519.PublicKey) {
	m.mu.Lock()
	was := m.signers
	m.signers = keys
	doubted := map[string]*announcer.Report{}
	for node, key := range keys {
		if r := m.roster.Report(node); r != nil && !bytes.Equal(key, was[node]) {
			doubted[node] = r
		}
	}
	m.mu.Unlock()
	// Without the lock: a thousand signatures take longer than the others wait for an answer.
	for node, r := range doubted {
		if signedBy(*r, keys[node]) {
			delete(doubted, node)
		}
	}
	m.mu.Lock()
	for node, r := range doubted {
		if m.roster.Report(node) == r {
			m.roster.Doubt(node)
			m.toAsk[node] = msgAgain
		}
	}
	m.dirty = m.dirty || len(doubted) > 0
	m.mu.Unlock()
	m.poke()
}

// vouch reports why r is not to be believed, if it is not. It is news after known, which
// is nil if the node never reported. m.mu is held.
func (m *Members) vouch(r announcer.Report, known *announcer.Report) error {
	if key, listed := m.signers[r.Node]; listed {
		if !signedBy(r, key) {
			if m.cfg.Doubted != nil {
				m.cfg.Doubted(r.Node)
			}
			return fmt.Errorf("%w: of %s, by another key", errForged, r.Node)
		}
		return nil
	}
	before := uint64(0)
	if known != nil {
		before = known.Version
	}
	if r.Version > before+maxJump {
		return fmt.Errorf("%w: of %s, version %d after %d", errForged, r.Node, r.Version, before)
	}
	return nil
}

// vouchOwn reports why r is not a report of an earlier agent of this node. m.mu is held.
func (m *Members) vouchOwn(r announcer.Report) error {
	key, listed := m.signers[r.Node]
	switch {
	case listed && signedBy(r, key), m.cfg.Key != nil && signedBy(r, publicOf(m.cfg.Key)):
		return nil
	case listed, r.Version > m.self.Version+maxJump:
		return fmt.Errorf("%w: of this node, version %d", errForged, r.Version)
	}
	return nil
}

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey {
	public, _ := key.Public().(ed25519.PublicKey)
	return public
}
