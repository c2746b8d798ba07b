package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Checkout puts a revision of the repository at root into a directory of its own,
// until remove. Without a revision it is the newest tag.
func Checkout(ctx context.Context, root, revision string) (dir string, remove func(), err error) {
	if revision == "" {
		if revision, err = newestTag(ctx, root); err != nil {
			return "", nil, err
		}
	}
	if dir, err = os.MkdirTemp("", "fairlead-earlier-"); err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	// A clone, and not a worktree: what is left of one after a crash troubles nobody.
	if _, err := git(ctx, root, "clone", "--quiet", "--shared", "--no-checkout", root, dir); err != nil {
		remove()
		return "", nil, err
	}
	commit, err := git(ctx, root, "rev-parse", "--verify", revision+"^{commit}")
	if err == nil {
		_, err = git(ctx, dir, "checkout", "--quiet", "--detach", commit)
	}
	if err != nil {
		remove()
		return "", nil, err
	}
	return dir, remove, nil
}

func newestTag(ctx context.Context, root string) (string, error) {
	tags, err := git(ctx, root, "tag", "--list", "v*", "--sort=-version:refname")
	if err != nil {
		return "", err
	}
	if tags == "" {
		return "", errors.New("there is no release tag to upgrade from: give a revision, as FROM=COMMIT")
	}
	newest, _, _ := strings.Cut(tags, "\n")
	return newest, nil
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, text)
	}
	return text, nil
}
