package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestProgramsAreSmall: the programs as they are shipped stay below largest. What
// makes them grow by a third is a module that calls methods by names that the
// linker cannot know: see docs/design.md.
func TestProgramsAreSmall(t *testing.T) {
	root, dir := filepath.Join("..", "..", ".."), t.TempDir()
	env := []string{"CGO_ENABLED=0", "GOWORK=off", "GOFLAGS="}
	if _, err := output(t.Context(), root, env, "go", "build", "-trimpath", "-buildvcs=false", "-tags", tags, "-ldflags", "-s -w", "-o", dir+"/", "./cmd/..."); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fairlead", "fairlead-ccm"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s has %.1f MB", name, float64(len(content))/1e6)
		if err := small(name, content); err != nil {
			t.Error(err)
		}
	}
}
