package sysctl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Wrong is a setting that differs from what is needed and that could not be set.
type Wrong struct {
	Setting
	Have string // "" if it cannot be read
	Err  error  // why it could not be set
}

func (w Wrong) String() string {
	have := w.Have
	if have == "" {
		have = "unknown"
	}
	return fmt.Sprintf("%s (%v)", w.Setting.Wrong(have), w.Err)
}

// Unforwarded returns the families that the kernel does not forward because of wrong,
// sorted. A setting that cannot be read shows nothing of its family.
func Unforwarded(wrong []Wrong) (out []snapshot.Family) {
	for _, w := range wrong {
		if w.Forwards != 0 && w.Have != "" {
			out = append(out, w.Forwards)
		}
	}
	slices.Sort(out)
	return out
}

// Set is a setting that was changed.
type Set struct {
	Setting
	Had string
}

// Dir is where the kernel shows its settings: /proc/sys.
type Dir string

// Apply reads each setting and sets what differs. Nothing is written that is
// right already. It returns what it changed, and what is wrong still.
func (d Dir) Apply(settings []Setting) (set []Set, wrong []Wrong) {
	for _, s := range settings {
		had, err := d.apply(s)
		switch {
		case err != nil:
			wrong = append(wrong, Wrong{Setting: s, Have: had, Err: err})
		case !s.Holds(had):
			set = append(set, Set{Setting: s, Had: had})
		}
	}
	return set, wrong
}

// apply returns what the setting was before.
func (d Dir) apply(s Setting) (had string, err error) {
	file := d.File(s.Name)
	if had, err = read(file); err != nil || s.Holds(had) {
		return had, err
	}
	if s.Leave != "" {
		return had, errors.New(s.Leave)
	}
	if err := os.WriteFile(file, []byte(s.Want), 0o644); err != nil { //nolint:gosec // the file is the kernel's
		return had, short(err)
	}
	now, err := read(file)
	if err == nil && !s.Holds(now) {
		err = errors.New("the kernel did not take the value")
	}
	return had, err
}

func read(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", short(err)
	}
	return strings.TrimSpace(string(b)), nil
}

// File is the path of a setting: its name with dots and slashes swapped.
func (d Dir) File(name string) string {
	return filepath.Join(string(d), strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, name))
}

// short drops the path, which the setting's name says already.
func short(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// Strict reports whether the kernel drops packets that come in from a link and whose source
// is reached by another one. The higher of the link's setting and that of all links counts.
func (d Dir) Strict(link string) bool {
	all, _ := read(d.File(reversePath("all")))
	own, err := read(d.File(reversePath(link)))
	return err == nil && max(all, own) == "1"
}
