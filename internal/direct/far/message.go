package far

import (
	"encoding/binary"

	"github.com/fairlead/fairlead/internal/direct"
)

// word is what a message says.
type word uint8

const (
	hello word = iota // "did this come?"
	came
)

// A message begins with a byte that no packet behind the director's header begins with: the
// program leaves it to this node's agent.
const (
	magic         = "\x00fairlead"
	messageLength = len(magic) + 1 + 8 // and a word, a nonce
)

// message is size bytes behind the header of UDP, or as short as it can be.
func message(w word, nonce uint64, size int) []byte {
	b := append([]byte(magic), byte(w))
	b = binary.BigEndian.AppendUint64(b, nonce)
	return append(b, make([]byte, max(0, size-len(b)))...)
}

// parse reads a message. It returns false for one of somebody else.
func parse(b []byte) (w word, nonce uint64, ok bool) {
	if len(b) < messageLength || string(b[:len(magic)]) != magic || word(b[len(magic)]) > came {
		return 0, 0, false
	}
	return word(b[len(magic)]), binary.BigEndian.Uint64(b[len(magic)+1:]), true
}

// sizes are the lengths of packets, with their headers, that are tried on a way of a family, the
// longest first: that of the route, a usual one of tunnels, and the least that is of use.
func sizes(mtu, header int) (out []int) {
	for _, size := range []int{mtu, 1400, direct.LeastInside + header} {
		if size <= mtu && size >= direct.LeastInside+header && (len(out) == 0 || size < out[len(out)-1]) {
			out = append(out, size)
		}
	}
	return out
}
