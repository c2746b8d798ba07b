// Package keyring keeps the keys that the agents' gossip is encrypted with: a
// Secret that the controller creates and, when it is asked to, rotates in steps
// that leave every agent the time to follow.
package keyring

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// Size is the length of the keys that are made, in bytes: AES-256.
const Size = 32

// most bounds how many keys are read.
const most = 8

// Pause is the time between two steps of a rotation: an agent that has the API
// server in reach follows within seconds.
const Pause = 10 * time.Minute

// Keys are the keys, the first one encrypts and all decrypt.
type Keys [][]byte

// Parse reads keys: base64, a line each, of 16, 24 or 32 bytes. It refuses a text without a
// key, and no error names one.
func Parse(text []byte) (Keys, error) {
	var keys Keys
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		key, err := base64.StdEncoding.AppendDecode(nil, line)
		if err != nil {
			return nil, errors.New("a line is not base64") // and it is not to be printed
		}
		if n := len(key); n != 16 && n != 24 && n != 32 {
			return nil, fmt.Errorf("a key has %d bytes, want 16, 24 or 32", n)
		}
		keys = append(keys, key)
	}
	switch {
	case len(keys) == 0:
		return nil, errors.New("there is no key")
	case len(keys) > most:
		return nil, fmt.Errorf("there are %d keys, more than %d", len(keys), most)
	}
	return keys, nil
}

// Format is the inverse of Parse.
func (k Keys) Format() []byte {
	var b []byte
	for _, key := range k {
		b = append(base64.StdEncoding.AppendEncode(b, key), '\n')
	}
	return b
}

// Step is how far a rotation has come.
type Step string

// The steps, in their order.
const (
	Resting  Step = ""         // none is under way
	Added    Step = "added"    // everybody learns to read the new key, which is the second
	Switched Step = "switched" // everybody writes with the new key, which is the first, and still reads the old
)

// Next is the rotation's next step, if one is due at now: asked reports whether
// somebody wants one to begin, since is when at was reached, generate makes a key.
func Next(keys Keys, at Step, since, now time.Time, asked bool, generate func() []byte) (Keys, Step, bool) {
	if at != Resting && now.Sub(since) < Pause {
		return keys, at, false
	}
	switch {
	case at == Added && len(keys) > 1:
		last := len(keys) - 1
		return append(Keys{keys[last]}, keys[:last]...), Switched, true
	case at == Switched, at == Added:
		return keys[:1], Resting, true
	case asked:
		return append(append(Keys{}, keys...), generate()), Added, true
	}
	return keys, at, false
}
