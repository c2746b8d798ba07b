// Package earlier builds programs from the code of an earlier release, so that tests
// can run what that release does beside what this code does.
package earlier

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// V010 is the commit of release v0.1.0.
const V010 = "f2acde3"

// v010 is the program that Program builds in v0.1.0. It is not a package of this tree.
//
//go:embed testdata/v010.go
var v010 []byte

// Program returns the path of a program that is built from v0.1.0's code, with one of
// these arguments:
//
//	sync FD      make the kernel hold the Table that standard input has as JSON; FD is
//	             a descriptor of the network namespace
//	table        print the Table of node "n1" by the saved snapshot on standard input
//	agent NODE DIR  run NODE's agent, without an API server and with an engine that holds
//	             everything, from the snapshot.json and members.keys in DIR until SIGTERM
//	save         print the saved snapshot on standard input as v0.1.0 writes it
//
// It is kept in the user's cache, not in the checkout. A repository without the commit,
// which is a shallow clone, cannot build it: the test is skipped and says so.
func Program(t testing.TB) string {
	t.Helper()
	path, err := program()
	switch {
	case err == nil:
		return path
	case errors.Is(err, errNoHistory):
		t.Skip(err)
	default:
		t.Fatal(err)
	}
	return ""
}

var errNoHistory = errors.New("the repository does not have v0.1.0")

func program() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "fairlead-earlier")
	path := filepath.Join(dir, fmt.Sprintf("%s-%x", V010, sha256.Sum256(v010)))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	source, err := os.MkdirTemp(dir, "source-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(source) }()
	if err := checkout(source); err != nil {
		return "", err
	}
	main := filepath.Join(source, "cmd", "earlier")
	if err := os.MkdirAll(main, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(main, "main.go"), v010, 0o644); err != nil {
		return "", err
	}
	built := filepath.Join(source, "program")
	cmd := exec.Command("go", "build", "-o", built, "./cmd/earlier")
	cmd.Dir, cmd.Env = source, append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build v0.1.0: %w\n%s", err, out)
	}
	// Another test may have built the same meanwhile.
	return path, os.Rename(built, path)
}

// checkout writes the files of v0.1.0 into dir.
func checkout(dir string) error {
	top, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return fmt.Errorf("%w: %w", errNoHistory, err)
	}
	archive, err := exec.Command("git", "-C", strings.TrimSpace(string(top)), "archive", V010).Output()
	if err != nil {
		return fmt.Errorf("%w: %w", errNoHistory, err)
	}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		path := filepath.Join(dir, filepath.Clean("/"+h.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return err
		}
	}
}
