// Package storytest reads the stories of the packages that decide: text files
// that say what is in a cluster, what is asked, and what comes out. It is used
// by tests alone.
package storytest

import (
	"bytes"
	"fmt"
	"strings"
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
