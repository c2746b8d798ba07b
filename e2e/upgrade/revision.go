package upgrade

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// releasesFile lists the releases, relative to the root of the repository. A line is
// "VERSION COMMIT", the newest release is the first line, and # begins a comment.
const releasesFile = ".ci/releases"

// Checkout writes a revision of the repository at root into a directory of its own.
// The revision is a release in root's .ci/releases, or whatever git resolves; empty,
// it is the newest release. The caller removes the directory with remove.
func Checkout(ctx context.Context, root, revision string) (dir string, remove func(), err error) {
	list, err := os.ReadFile(filepath.Join(root, releasesFile))
	if err != nil {
		return "", nil, fmt.Errorf("releases: %w", err)
	}
	if revision, err = resolve(string(list), revision); err != nil {
		return "", nil, err
	}
	commit, err := git(ctx, root, "rev-parse", "--verify", revision+"^{commit}")
	if err != nil {
		return "", nil, err
	}
	if dir, err = os.MkdirTemp("", "fairlead-earlier-"); err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	// A clone and not a worktree: after a crash the repository would still list it.
	if _, err = git(ctx, root, "clone", "--quiet", "--shared", "--no-checkout", root, dir); err == nil {
		_, err = git(ctx, dir, "checkout", "--quiet", "--detach", commit)
	}
	if err != nil {
		remove()
		return "", nil, err
	}
	return dir, remove, nil
}

// resolve returns the commit of a release in list, or of the newest if revision is
// empty. Any other revision is returned as it is.
func resolve(list, revision string) (string, error) {
	for line := range strings.Lines(list) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if len(words) != 2 {
			return "", fmt.Errorf("%s: %q is not VERSION COMMIT", releasesFile, strings.TrimSpace(line))
		}
		if revision == "" || revision == words[0] {
			return words[1], nil
		}
	}
	if revision == "" {
		return "", fmt.Errorf("%s lists no release to upgrade from: give a revision, as FROM=COMMIT", releasesFile)
	}
	return revision, nil
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, text)
	}
	return text, nil
}
