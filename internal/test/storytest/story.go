package storytest

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Update reports whether the flag -update is given: what comes out is then
// written into the stories instead of compared with them.
var Update = flag.Bool("update", false, "write what came out into the stories")

// Story is one file: a comment that says what it shows, and sections.
type Story struct {
	Comment  string
	Sections []*Section
}

// Section is one part of a Story.
type Section struct {
	Name string // all words of its title
	Text string
}

// Kind returns the first word of the section's title.
func (s *Section) Kind() string {
	kind, _, _ := strings.Cut(s.Name, " ")
	return kind
}

// Args returns what follows the first word of the section's title.
func (s *Section) Args() string {
	_, args, _ := strings.Cut(s.Name, " ")
	return args
}

// Want compares what came out with what the section says. With -update, the
// section says from now on what came out.
func (s *Section) Want(t testing.TB, got string) {
	t.Helper()
	if got != s.Text && !*Update {
		t.Errorf("wanted\n-- %s --\n%s-- got --\n%s", s.Name, s.Text, got)
	}
	s.Text = got
}

// Step is one moment of a Story. It begins with a section "then", except the
// first, which begins with the Story.
type Step struct {
	// Elapsed is the time since the Story began: the sum of the durations in
	// the titles so far, such as "then 20s". A "then" without one takes no time.
	Elapsed time.Duration
	// Sections are those of this moment, "then" included.
	Sections []*Section
}

// Steps returns the moments of the Story in order.
func (s *Story) Steps(t testing.TB) []Step {
	t.Helper()
	var steps []Step
	for i, sec := range s.Sections {
		if i == 0 || sec.Kind() == "then" {
			next := Step{Elapsed: s.after(t, sec)}
			if len(steps) > 0 {
				next.Elapsed += steps[len(steps)-1].Elapsed
			}
			steps = append(steps, next)
		}
		last := &steps[len(steps)-1]
		last.Sections = append(last.Sections, sec)
	}
	return steps
}

// after returns the duration in the title of a section "then".
func (s *Story) after(t testing.TB, sec *Section) time.Duration {
	t.Helper()
	if sec.Kind() != "then" || sec.Args() == "" {
		return 0
	}
	d, err := time.ParseDuration(sec.Args())
	if err != nil || d < 0 {
		t.Fatalf("-- %s --: want a duration such as 20s", sec.Name)
	}
	return d
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

// Read reads a Story from a file.
func Read(t testing.TB, file string) *Story {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(data)
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

// Each tells every story of the test's testdata folder, each as a subtest. With
// -update it writes back what tell made of the Story.
func Each(t *testing.T, tell func(*testing.T, *Story)) {
	t.Helper()
	EachIn(t, "testdata", func(t *testing.T, file string) {
		s := Read(t, file)
		tell(t, s)
		if *Update {
			if err := os.WriteFile(file, s.Format(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// EachIn calls do with every story of a folder, each as a subtest. It writes
// nothing: the folder is that of another test.
func EachIn(t *testing.T, folder string, do func(t *testing.T, file string)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { do(t, file) })
	}
}
