package v1alpha1

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGenerated: what is committed is what internal/tools/generate.sh writes.
func TestGenerated(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("go", "tool", "-modfile=internal/tools/go.mod", "controller-gen",
		"object", "output:object:dir="+dir, "crd", "output:crd:dir="+dir, "paths=./api/...")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("controller-gen: %v\n%s", err, out)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		committed := f.Name()
		if strings.HasSuffix(committed, ".yaml") {
			committed = filepath.Join(crdDir, committed)
		}
		want, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(committed); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is stale (%v): run internal/tools/generate.sh", committed, err)
		}
	}
	if len(files) != 6 {
		t.Errorf("%d generated files, want 6", len(files))
	}
}
