package main

import (
	"strings"
	"testing"
)

// The command of version 0.1.0 fails whatever its flags, and says what to run.
func TestMovedCommand(t *testing.T) {
	for _, args := range [][]string{{"ccm"}, {"ccm", "--secure-port=9810", "-v=2"}, {"ccm", "--help"}} {
		cmd := root()
		cmd.SetArgs(args)
		err := cmd.ExecuteContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), "fairlead-ccm") || exitCode(err) == 0 {
			t.Errorf("%q: %v", args, err)
		}
	}
}
