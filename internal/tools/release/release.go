package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// release is what all files of a release have in common.
type release struct {
	version   string // v0.1.0
	commit    string
	at        time.Time // of the commit
	out       string    // directory of the files
	libraries []library
	notices   []byte
	licence   []byte
}

// number is the version as images and archives spell it.
func (r *release) number() string { return strings.TrimPrefix(r.version, "v") }

// newRelease reads commit and licence of the checkout at root.
func newRelease(ctx context.Context, version, root, out string) (*release, error) {
	commit, err := output(ctx, root, nil, "git", "log", "-1", "--format=%H %ct")
	if err != nil {
		return nil, err
	}
	hash, seconds, _ := strings.Cut(strings.TrimSpace(commit), " ")
	at, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("time of the commit: %w", err)
	}
	licence, err := os.ReadFile(filepath.Join(root, "LICENSE"))
	return &release{version: version, commit: hash, at: time.Unix(at, 0).UTC(), out: out, licence: licence}, err
}

// write writes a file of the release.
func (r *release) write(name string, content []byte) error {
	return os.WriteFile(filepath.Join(r.out, name), content, 0o644)
}

// program is a file that goreleaser built for a system.
type program struct {
	name, os, arch string
	content        []byte
}

// built reads the programs that goreleaser's artifacts.json names, by paths relative
// to root. No program is an error.
func built(root, artifacts string) ([]program, error) {
	data, err := os.ReadFile(artifacts)
	if err != nil {
		return nil, err
	}
	var list []struct{ Name, Path, Goos, Goarch, Type string }
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", artifacts, err)
	}
	var programs []program
	for _, a := range list {
		if a.Type != "Binary" {
			continue
		}
		content, err := os.ReadFile(filepath.Join(root, a.Path))
		if err != nil {
			return nil, err
		}
		if err := small(a.Path, content); err != nil {
			return nil, err
		}
		programs = append(programs, program{a.Name, a.Goos, a.Goarch, content})
	}
	if len(programs) == 0 {
		return nil, fmt.Errorf("%s names no program", artifacts)
	}
	return programs, nil
}

// tags are the build tags of the programs. With grpcnotrace, grpc does not import
// html/template, which would keep the linker from dropping methods that nothing
// calls.
const tags = "grpcnotrace"

// largest is the most bytes that a program may have. It is above all of them, and
// below what they have if the linker keeps every exported method.
const largest = 60_000_000

// small returns an error if a program is larger than it may be.
func small(name string, content []byte) error {
	if len(content) > largest {
		return fmt.Errorf("%s has %d bytes, more than %d: docs/design.md says what usually makes it grow", name, len(content), largest)
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
