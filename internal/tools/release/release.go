package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// release is what is being made.
type release struct {
	version   string // v0.1.0
	commit    string
	at        time.Time // of the commit
	root, out string
	written   []string // names of the files in out
	targets   []target
	libraries []library
	notices   []byte
	licence   []byte
}

// number is the version as charts, images and archives spell it.
func (r *release) number() string { return strings.TrimPrefix(r.version, "v") }

var versions = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)

func newRelease(ctx context.Context, version, root, out string) (*release, error) {
	if !versions.MatchString(version) {
		return nil, fmt.Errorf("version %q is not like v0.1.0 or v0.1.0-rc.1", version)
	}
	commit, err := output(ctx, root, nil, "git", "log", "-1", "--format=%H %ct")
	if err != nil {
		return nil, err
	}
	hash, seconds, _ := strings.Cut(strings.TrimSpace(commit), " ")
	at, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("time of the commit: %w", err)
	}
	r := &release{version: version, commit: hash, at: time.Unix(at, 0).UTC(), root: root, out: out}
	if r.licence, err = os.ReadFile(filepath.Join(root, "LICENSE")); err != nil {
		return nil, err
	}
	changed, err := output(ctx, root, nil, "git", "status", "--porcelain", "--untracked-files=no")
	if err == nil && changed != "" {
		fmt.Fprintln(os.Stderr, "release: files differ from the commit: this can be tried, and not published")
	}
	return r, err
}

func (r *release) make(ctx context.Context) error {
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	var programs []program
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"change log", r.changes},
		{"licences", func() error { return r.legal(ctx) }},
		{"programs", func() (err error) { programs, err = r.build(ctx); return err }},
		{"archives", func() error { return r.archives(programs) }},
		{"images", func() error { return r.images(programs) }},
		{"chart", r.chart},
		{"bill of materials", func() error { return r.bill(programs) }},
		{"kubectl plugin", r.plugin},
		{"checksums", r.checksums},
	} {
		began := time.Now()
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Printf("%-18s %5.1f s\n", step.name, time.Since(began).Seconds())
	}
	return r.list()
}

// legal checks the licences and keeps their texts.
func (r *release) legal(ctx context.Context) error {
	var err error
	if r.libraries, err = libraries(ctx, r.root); err != nil {
		return err
	}
	r.notices = notices(r.libraries)
	return r.write("THIRD-PARTY-NOTICES.txt", r.notices)
}

// changes takes this version's section out of the change log.
func (r *release) changes() error {
	log, err := os.ReadFile(filepath.Join(r.root, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	section, err := section(string(log), r.version)
	if err != nil {
		return err
	}
	return r.write("RELEASE-NOTES.md", []byte(section))
}

// section returns what stands below the heading of a version, which may go on after
// it with a date.
func section(log, version string) (string, error) {
	var found []string
	inside := false
	for line := range strings.Lines(log) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			inside = slices.Contains(strings.Fields(title)[:1], version)
			continue
		}
		if inside {
			found = append(found, line)
		}
	}
	text := strings.TrimSpace(strings.Join(found, ""))
	if text == "" {
		return "", fmt.Errorf("CHANGELOG.md says nothing below the heading %q", "## "+version)
	}
	return text + "\n", nil
}

// write writes a file of the release.
func (r *release) write(name string, content []byte) error {
	r.written = append(r.written, name)
	return os.WriteFile(filepath.Join(r.out, name), content, 0o644)
}

func (r *release) list() error {
	slices.Sort(r.written)
	for _, name := range r.written {
		info, err := os.Stat(filepath.Join(r.out, name))
		if err != nil {
			return err
		}
		fmt.Printf("%10d  %s\n", info.Size(), filepath.Join(r.out, name))
	}
	return nil
}

// output runs a program in dir and returns what it prints.
func output(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(problems.String()))
	}
	return string(out), nil
}
