package upgrade

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The earlier revision is the one that is named, or the highest tag.
func TestCheckout(t *testing.T) {
	root := t.TempDir()
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	run := func(args ...string) {
		t.Helper()
		if _, err := git(t.Context(), root, args...); err != nil {
			t.Fatal(err)
		}
	}
	run("init", "--quiet")
	if _, _, err := Checkout(t.Context(), root, ""); err == nil || !strings.Contains(err.Error(), "FROM=COMMIT") {
		t.Errorf("without a tag: %v", err)
	}
	for _, tag := range []string{"v0.9.0", "v0.10.0", "w1"} {
		if err := os.WriteFile(filepath.Join(root, "file"), []byte(tag), 0o644); err != nil {
			t.Fatal(err)
		}
		run("add", "file")
		run("-c", "user.name=n", "-c", "user.email=e@example.com", "commit", "--quiet", "-m", tag)
		run("tag", tag)
	}
	for revision, want := range map[string]string{"": "v0.10.0", "v0.9.0": "v0.9.0", "HEAD": "w1"} {
		dir, remove, err := Checkout(t.Context(), root, revision)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "file")); string(got) != want {
			t.Errorf("revision %q: %q, %v", revision, got, err)
		}
		remove()
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is still there", dir)
		}
	}
}
