package upgrade

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestResolve: a release is found by its name in the list, without its tag. The list
// of this repository has v0.1.0.
func TestResolve(t *testing.T) {
	ours, err := os.ReadFile(filepath.Join("..", "..", releasesFile))
	if err != nil {
		t.Fatal(err)
	}
	const list = "# Releases\n\nv0.10.0 bbb # a comment\nv0.9.0 aaa\n"
	for _, row := range []struct{ list, revision, want, err string }{
		{list, "", "bbb", ""},
		{list, "v0.10.0", "bbb", ""},
		{list, "v0.9.0", "aaa", ""},
		{list, "v0.9", "v0.9", ""}, // a tag or a branch, perhaps: git decides
		{list, "HEAD~3", "HEAD~3", ""},
		{"# none yet\n", "", "", "FROM=COMMIT"},
		{"v0.9.0\n", "", "", `"v0.9.0" is not VERSION COMMIT`},
		{string(ours), "v0.1.0", "f2acde3", ""},
	} {
		got, err := resolve(row.list, row.revision)
		if row.err == "" && (err != nil || !strings.HasPrefix(got, row.want) || got == "") {
			t.Errorf("%q: %q, %v, want %q", row.revision, got, err, row.want)
		}
		if row.err != "" && (err == nil || !strings.Contains(err.Error(), row.err)) {
			t.Errorf("%q: error %v, want %q", row.revision, err, row.err)
		}
	}
}

// TestCheckout: the directory holds the files of a listed release that has no tag, of a
// tag that is not listed, or of a commit, until it is removed.
func TestCheckout(t *testing.T) {
	root := t.TempDir()
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	run := func(args ...string) string {
		t.Helper()
		out, err := git(t.Context(), root, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run("init", "--quiet")
	list := ""
	for _, version := range []string{"v0.9.0", "v0.10.0", "w1"} {
		write("file", version)
		run("add", "file")
		run("-c", "user.name=n", "-c", "user.email=e@example.com", "commit", "--quiet", "-m", version)
		list = version + " " + run("rev-parse", "HEAD") + "\n" + list
	}
	_, list, _ = strings.Cut(list, "\n") // w1 is not a release
	write(releasesFile, list)
	run("tag", "w1")
	for revision, want := range map[string]string{"": "v0.10.0", "v0.9.0": "v0.9.0", "w1": "w1", "HEAD~1": "v0.10.0"} {
		dir, remove, err := Checkout(t.Context(), root, revision)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "file")); string(got) != want {
			t.Errorf("revision %q: %q, %v, want %q", revision, got, err, want)
		}
		remove()
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is still there", dir)
		}
	}
	if _, _, err := Checkout(t.Context(), root, "v9.9.9"); err == nil {
		t.Error("a revision that does not exist was checked out")
	}
}
