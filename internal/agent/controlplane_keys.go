package agent

import (
	"fmt"
	"os"

	"github.com/fairlead/fairlead/internal/keyring"
)

// readKeys reads the keys of the gossip. It refuses a file that others than its owner may
// read: who has a key can say that nodes are dead.
func readKeys(file string) (keyring.Keys, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("--key-file: %w", err)
	}
	if open := info.Mode().Perm() & 0o077; open != 0 {
		return nil, fmt.Errorf("--key-file: %s has the mode %s; run chmod 600 on it", file, info.Mode().Perm())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--key-file: %w", err)
	}
	keys, err := keyring.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("--key-file: %s: %w", file, err)
	}
	return keys, nil
}
