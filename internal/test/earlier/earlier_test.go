package earlier

import (
	"os/exec"
	"strings"
	"testing"
)

// The program of v0.1.0 is built, and refuses what v0.1.0 refuses.
func TestProgram(t *testing.T) {
	cmd := exec.Command(Program(t), "table")
	cmd.Stdin = strings.NewReader(`{"Version":2,"Snapshot":{}}`)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "of version 2") {
		t.Errorf("%v: %s", err, out)
	}
}
