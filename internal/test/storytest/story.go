// Package storytest reads the stories of the packages that decide: text files
// that say what is in a cluster, what is asked, and what comes out. It is used
// by tests alone.
package storytest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Story is one file: a comment that says what it shows, and sections.
type Story struct {
	Comment  string
	Sections []*Section
}

// Section is one part of a Story.
type Section struct {
	Name string
	Text string
}

// Parse reads a Story: "-- name --" on a line of its own begins a section.
func Parse(data []byte) *Story {
	s := &Story{}
	var at *Section
	for line := range bytes.Lines(data) {
		text := string(line)
		name, opened := strings.CutPrefix(strings.TrimSpace(text), "-- ")
		name, closed := strings.CutSuffix(name, " --")
		switch {
		case opened && closed:
			at = &Section{Name: name}
			s.Sections = append(s.Sections, at)
		case at == nil:
			s.Comment += text
		default:
			at.Text += text
		}
	}
	return s
}

// Format is the reverse of Parse.
func (s *Story) Format() []byte {
	var b bytes.Buffer
	b.WriteString(s.Comment)
	for _, sec := range s.Sections {
		fmt.Fprintf(&b, "-- %s --\n%s", sec.Name, sec.Text)
	}
	return b.Bytes()
}

// Each tells every story in the test's testdata folder, each as a subtest. With
// update what tell made of the Story is written back.
func Each(t *testing.T, update bool, tell func(*testing.T, *Story)) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := Parse(data)
			tell(t, s)
			if update {
				if err := os.WriteFile(file, s.Format(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
