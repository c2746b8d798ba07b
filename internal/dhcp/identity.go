package dhcp

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Identity is what a lease is known by to the servers. It depends on the Service and the
// pool alone, so that a lease survives the node that keeps it.
type Identity struct {
	MAC  [6]byte  // the client's, locally administered: no link has it
	UUID [16]byte // of the DUID (RFC 6355)
	IAID [4]byte
	Host string // name for people who look at the server's list
}

// IdentityOf returns the Identity of the lease called key, for a Service.
func IdentityOf(key Key, namespace, name string) (id Identity) {
	of := sha256.Sum256([]byte(key.Pool + "\n" + key.ID))
	copy(id.MAC[:], of[:])
	id.MAC[0] = id.MAC[0]&^1 | 2
	copy(id.IAID[:], of[6:])
	raw, err := hex.DecodeString(strings.ReplaceAll(key.ID, "-", ""))
	if err != nil || len(raw) != len(id.UUID) {
		sum := sha256.Sum256([]byte(key.ID))
		raw = sum[:len(id.UUID)]
	}
	copy(id.UUID[:], raw)
	// The namespace comes first: a tenant must not choose a name such as "wpad", which
	// some servers publish in DNS.
	id.Host = namespace + "-" + name
	if len(id.Host) > 63 {
		id.Host = strings.TrimRight(id.Host[:63], "-")
	}
	return id
}
