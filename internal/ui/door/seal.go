package door

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"
)

// Stay is how long a token that somebody typed in is kept for them, in a cookie that only
// the page can open.
const Stay = time.Hour

// errSeal says that a cookie is not one of ours, or too old.
var errSeal = errors.New("the cookie cannot be opened")

// Seal returns token as the value of a cookie that is good until end.
func Seal(key []byte, token string, end time.Time) (string, error) {
	box, err := sealer(key)
	if err != nil {
		return "", err
	}
	// The nonce is at random, and before the text.
	plain := append(binary.BigEndian.AppendUint64(nil, uint64(end.Unix())), token...)
	return base64.RawURLEncoding.EncodeToString(box.Seal(nil, nil, plain, nil)), nil
}

// Open returns the token of a cookie that is good at time now.
func Open(key []byte, value string, now time.Time) (string, error) {
	box, err := sealer(key)
	if err != nil {
		return "", err
	}
	data, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return "", errSeal
	}
	plain, err := box.Open(nil, nil, data, nil)
	if err != nil || len(plain) < 8 || now.Unix() >= int64(binary.BigEndian.Uint64(plain)) {
		return "", errSeal
	}
	return string(plain[8:]), nil
}

func sealer(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
