// Package story reads the allocator's stories: text files that say what is in a
// cluster, what is wanted, what happens then, and what is wanted then. The same
// file can be told to Decide alone or to a whole controller.
package story

import (
	"bytes"
	"fmt"
	"strings"
)

// Story is one file: text that says what it shows, and sections.
type Story struct {
	Comment  string
	Sections []*Section
}

// Section is one part of a Story. "cluster" and "then" hold commands for a
// World; what the other sections hold is compared with what came out: "want"
// (the Plan), "addresses" (the records), "pools" (their status) and "messages"
// (refusals and warnings in full).
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
		trimmed := strings.TrimSpace(text)
		if name, ok := strings.CutPrefix(trimmed, "-- "); ok && strings.HasSuffix(name, " --") {
			at = &Section{Name: strings.TrimSuffix(name, " --")}
			s.Sections = append(s.Sections, at)
			continue
		}
		if at == nil {
			s.Comment += text
		} else {
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
