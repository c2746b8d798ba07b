package l2

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"
)

// Lengths of what ends a word, in this order: the number of the word, the seal by the
// agents' key, and the signature by the node's own, which an old node has not.
const (
	serialLen = 8
	sealLen   = 16
)

// purpose keeps what words are sealed and signed with apart from what else is done with
// the same keys.
const purpose = "fairlead's words on a link: "

// seals say which words are believed. Any host on the link can send a frame with the MAC of
// a node, so a word needs a seal by a key that only agents have, and the signature of its
// node. Somebody who is root on one node speaks for that node alone.
type seals struct {
	keys    [][]byte                     // the first seals, all of them open; none: nothing is said and nothing believed
	own     ed25519.PrivateKey           // nil: what this node says is not signed
	signers map[string]ed25519.PublicKey // by node: its words have to be signed
}

// SetKeys takes in the keys that the agents share. The first seals, all of them open.
func (w *Watcher) SetKeys(keys [][]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seals.keys = keys
}

// SetSigners takes in the public keys that nodes sign with, by their names. A node that is
// not among them does not sign. The map must not be changed afterwards.
func (w *Watcher) SetSigners(signers map[string]ed25519.PublicKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seals.signers = signers
}

func (w *Watcher) sealed() seals {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seals
}

// close appends the number, the seal and the signature to the frame of a word; nil while
// there is no key.
func (s seals) close(frame []byte, serial uint64) []byte {
	if len(s.keys) == 0 {
		return nil
	}
	b := binary.BigEndian.AppendUint64(frame, serial)
	b = append(b, seal(s.keys[0], b)...)
	if s.own != nil {
		b = append(b, ed25519.Sign(s.own, append([]byte(purpose), b...))...)
	}
	return b
}

// errSealed gives no reason, so that a forger learns nothing.
var errSealed = errors.New("not sealed by an agent")

// open returns the number of a word that node sent. It is size bytes long without its end.
func (s seals) open(frame []byte, size int, node string) (serial uint64, err error) {
	if len(frame) < size+serialLen+sealLen {
		return 0, errSealed
	}
	said, rest := frame[:size+serialLen], frame[size+serialLen:]
	if !s.sealedBy(said, rest[:sealLen]) {
		return 0, errSealed
	}
	// The signature comes last: it takes 50 µs of CPU, and a stranger does not get here.
	if key, listed := s.signers[node]; listed {
		signed, by := frame[:size+serialLen+sealLen], rest[sealLen:]
		if len(by) < ed25519.SignatureSize || !ed25519.Verify(key, append([]byte(purpose), signed...), by[:ed25519.SignatureSize]) {
			return 0, errSealed
		}
	}
	return binary.BigEndian.Uint64(said[size:]), nil
}

func (s seals) sealedBy(said, tag []byte) bool {
	for _, key := range s.keys {
		if hmac.Equal(tag, seal(key, said)) {
			return true
		}
	}
	return false
}

func seal(key, said []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(purpose))
	h.Write(said)
	return h.Sum(nil)[:sealLen]
}

// maxSkew is how far the clocks of two nodes may be apart. A node hears no word that was
// said longer than that before its agent started: somebody may have recorded it.
const maxSkew = time.Minute

// numberAt is the number of a word that is said at some time.
func numberAt(at time.Time) uint64 { return uint64(at.UnixNano()) }

// serials number the words of this node. A listener takes each number once, and none from
// before its start, so a recorded word counts for nothing. The clock is read once, when the
// Watcher starts: a node whose clock is set back stays heard. If its agent starts again after
// that, the others do not hear its words until the clock is where it was. The gossip then says
// what they would have.
type serials struct {
	start time.Time
	last  uint64
}

func (s *serials) next() uint64 {
	since := time.Since(s.start) // by the monotonic clock
	s.last = max(s.last+1, numberAt(s.start.Add(since)))
	return s.last
}
