package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// allowed are the licences that a static binary under Apache-2.0 may carry, each
// with what it asks for.
var allowed = map[string]string{
	"Apache-2.0":   "our own; its NOTICE files are passed on",
	"MIT":          "its text is passed on",
	"ISC":          "its text is passed on",
	"BSD-2-Clause": "its text is passed on",
	"BSD-3-Clause": "its text is passed on",
	"MPL-2.0":      "applies file by file: the files are unchanged, and their source is named by module and version (section 3.2)",
	"0BSD":         "asks for nothing",
	"Unlicense":    "asks for nothing",
	"CC0-1.0":      "asks for nothing",
}

// stated are licences of modules that have no file of them.
var stated = map[string]string{
	"github.com/mattn/go-localereader@v0.0.1": "MIT", // the last lines of its README.md
}

// library is a module that is built into a program.
type library struct {
	path, version string
	licences      []string // SPDX identifiers, sorted
	texts         []text
}

// text is a licence or notice file, by its name in the module.
type text struct{ name, content string }

// listed is what "go list" says of a package.
type listed struct {
	Dir    string
	Module *struct {
		Path, Version, Dir string
		Main               bool
		Replace            *struct{ Path, Version, Dir string }
	}
}

// libraries lists the modules of the programs of all targets, with the licences of
// the packages that they use. The error names all that have none or one that is not
// allowed.
func libraries(ctx context.Context, root string) ([]library, error) {
	dirs := map[string]*source{}
	for _, system := range []string{"linux", "darwin", "windows"} {
		out, err := output(ctx, root, []string{"CGO_ENABLED=0", "GOWORK=off", "GOOS=" + system}, "go", "list", "-deps", "-tags", tags, "-json=Dir,Module", "./cmd/...")
		if err != nil {
			return nil, err
		}
		if err := collect(out, dirs); err != nil {
			return nil, err
		}
	}
	var list []library
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(dirs)) {
		l, err := dirs[path].library()
		list, errs = append(list, l), append(errs, err)
	}
	for _, f := range embedded {
		l, err := f.read(root)
		list, errs = append(list, l), append(errs, err)
	}
	return list, errors.Join(errs...)
}

// embedded are the packages of npm whose files the page loads. A test in internal/ui
// compares the files with those of these versions.
var embedded = []file{
	{"htmx.org", "2.0.11", "internal/ui/static/LICENSE.htmx"},
	{"htmx-ext-sse", "2.2.4", "internal/ui/static/LICENSE.sse"},
}

// file is a package of npm, and where its licence lies.
type file struct{ name, version, licence string }

func (f file) read(root string) (library, error) {
	l := library{path: npm + f.name, version: f.version}
	content, err := os.ReadFile(filepath.Join(root, f.licence))
	if err != nil {
		return l, err
	}
	l.texts, l.licences = []text{{filepath.Base(f.licence), string(content)}}, identify(content)
	return l, l.objection()
}

// npm begins the path of a library that is a package of npm.
const npm = "npm:"

// source is where a module's packages lie.
type source struct {
	path, version, root string
	dirs                map[string]bool
}

// collect adds the packages that "go list -json" printed.
func collect(out string, into map[string]*source) error {
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("go list: %w", err)
		}
		if p.Module == nil || p.Module.Main {
			continue
		}
		s := &source{path: p.Module.Path, version: p.Module.Version, root: p.Module.Dir, dirs: map[string]bool{}}
		if r := p.Module.Replace; r != nil {
			s.path, s.version, s.root = r.Path, r.Version, r.Dir
		}
		if into[s.path] == nil {
			into[s.path] = s
		}
		// Its own licence may stand in any directory on the way up.
		for dir := p.Dir; strings.HasPrefix(dir, s.root); dir = filepath.Dir(dir) {
			into[s.path].dirs[dir] = true
		}
	}
}

var (
	licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)([-._].*)?$`)
	noticeFile  = regexp.MustCompile(`(?i)^(notice|patents|authors)([-._].*)?$`)
	sourceFile  = regexp.MustCompile(`(?i)\.(go|s|c|h|py|sh|tmpl|ya?ml)$`)
)

// library reads the files and judges them.
func (s *source) library() (library, error) {
	l := library{path: s.path, version: s.version}
	if id := stated[l.path+"@"+l.version]; id != "" {
		l.licences = []string{id}
	}
	for _, dir := range slices.Sorted(maps.Keys(s.dirs)) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return l, err
		}
		for _, e := range entries {
			kind := licenceFile.MatchString(e.Name())
			if e.IsDir() || sourceFile.MatchString(e.Name()) || !kind && !noticeFile.MatchString(e.Name()) {
				continue
			}
			content, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return l, err
			}
			name, err := filepath.Rel(s.root, filepath.Join(dir, e.Name()))
			if err != nil {
				return l, err
			}
			l.texts = append(l.texts, text{name, string(content)})
			if kind {
				l.licences = append(l.licences, identify(content)...)
			}
		}
	}
	slices.Sort(l.licences)
	l.licences = slices.Compact(l.licences)
	return l, l.objection()
}

// enough is the part of a file, in percent, that must be the text of licences.
const enough = 75

// identify names the licences whose texts a file consists of.
func identify(content []byte) []string {
	cover := licensecheck.Scan(content)
	if cover.Percent < enough {
		return []string{fmt.Sprintf("unknown (%.0f %%)", cover.Percent)}
	}
	var ids []string
	for _, m := range cover.Match {
		ids = append(ids, m.ID)
	}
	return ids
}

func (l library) objection() error {
	if len(l.licences) == 0 {
		return fmt.Errorf("%s %s has no licence file", l.path, l.version)
	}
	for _, id := range l.licences {
		if allowed[id] == "" {
			return fmt.Errorf("%s %s: licence %s is not allowed", l.path, l.version, id)
		}
	}
	return nil
}

// summary counts the modules by their licences.
func summary(list []library) string {
	counts := map[string]int{}
	for _, l := range list {
		counts[strings.Join(l.licences, " AND ")]++
	}
	var out strings.Builder
	for _, id := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&out, "%4d  %s\n", counts[id], id)
	}
	fmt.Fprintf(&out, "licences: ok, %d modules\n", len(list))
	return out.String()
}

// notices are the texts that the licences ask to be passed on.
func notices(list []library) []byte {
	var out strings.Builder
	fmt.Fprintf(&out, "fairlead's programs contain these modules, unchanged. Their source is at\nhttps://pkg.go.dev/MODULE@VERSION, that of npm:NAME in the npm registry. The Go library itself is BSD-3-Clause,\nhttps://go.dev/LICENSE.\n")
	for _, l := range list {
		fmt.Fprintf(&out, "\n%s\n%s %s: %s\n", strings.Repeat("=", 78), l.path, l.version, strings.Join(l.licences, ", "))
		for _, t := range l.texts {
			fmt.Fprintf(&out, "\n--- %s\n\n%s\n", t.name, strings.TrimSpace(t.content))
		}
	}
	return []byte(out.String())
}
