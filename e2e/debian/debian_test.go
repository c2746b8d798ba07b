package debian

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestArgs(t *testing.T) {
	r := RootFS{Packages: []string{"curl", "jq"}, Hook: `/s/node.sh "$1"`}
	got := r.args("http://deb.example/debian", "/c/x.tar")
	for _, want := range []string{"--include=curl,jq", `--customize-hook=/s/node.sh "$1"`} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if end := strings.Join(got[len(got)-3:], " "); end != Suite+" /c/x.tar http://deb.example/debian" {
		t.Errorf("it ends with %q", end)
	}
	if args := (RootFS{}).args("m", "o"); slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, "hook") }) {
		t.Errorf("a hook that nobody asked for: %q", args)
	}
}

// A disk without room is told before anything is made on it, also for a directory that does
// not exist yet.
func TestHasRoom(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "yet")
	if err := hasRoom(dir, 1); err != nil {
		t.Error(err)
	}
	if err := hasRoom(dir, 1<<62); err == nil || !strings.Contains(err.Error(), "GB free") {
		t.Errorf("an exabyte: %v", err)
	}
}
