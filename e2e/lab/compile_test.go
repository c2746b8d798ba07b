package lab

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What the build cache has is not announced again.
func TestSurveyFindsWhatTheCacheLacks(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "go.mod", "module a.test/x\n\ngo 1.26.0\n")
	write(t, dir, "main.go", "package main\n\nimport \"a.test/x/part\"\n\nfunc main() { println(part.Name) }\n")
	write(t, dir, "part/part.go", "package part\n\nconst Name = \""+dir+"\"\n")
	var out bytes.Buffer
	p := NewProgress(&out)
	defer p.Close()
	step := p.Begin("building x")
	c := compilation{dir: dir, commands: []string{"."}}

	work, err := c.survey(t.Context(), step)
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range []string{"a.test/x", "a.test/x/part"} {
		if work[pkg] == 0 {
			t.Errorf("%s is not in %v", pkg, work)
		}
	}
	if err := c.run(t.Context(), step, "-o", filepath.Join(dir, "x")); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), " packages to compile, ") {
		t.Errorf("no estimate in:\n%s", out.String())
	}
	work, err = c.survey(t.Context(), step)
	if err != nil || work["a.test/x/part"] != 0 {
		t.Errorf("after the build: %v, %v", work, err)
	}
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFollow(t *testing.T) {
	var heard []string
	said := follow(strings.NewReader("a\nb\n"), func(line string) { heard = append(heard, line) })
	if said != "a\nb\n" || !slices.Equal(heard, []string{"a", "b"}) {
		t.Errorf("%q, %q", said, heard)
	}
}
