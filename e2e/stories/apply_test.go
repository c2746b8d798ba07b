package stories

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/lab"
)

// apply applies manifests for the length of a story.
func apply(t *testing.T, manifests string) {
	t.Helper()
	l := cluster(t)
	undo(t, func(ctx context.Context) error {
		_, err := kubectlInput(ctx, l, manifests, "delete", "-f", "-", "--ignore-not-found", "--cascade=foreground", "--timeout=2m")
		return err
	})
	if out, err := kubectlInput(t.Context(), l, manifests, "apply", "-f", "-"); err != nil {
		t.Fatalf("apply: %v: %s", err, out)
	}
}

// applyFile applies a file of testdata for the length of a story.
func applyFile(t *testing.T, name string) {
	t.Helper()
	apply(t, manifests(t, name))
}

// manifests reads a file of testdata.
func manifests(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// undo does something at the end of a story, also of one that was stopped.
func undo(t *testing.T, f func(context.Context) error) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		if err := f(ctx); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
}

// kubectl runs kubectl and returns what it printed.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := cluster(t).Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// kubectlInput returns standard output and standard error as one.
func kubectlInput(ctx context.Context, l *lab.Lab, in string, args ...string) (string, error) {
	cmd := l.KubectlCommand(ctx, args...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// eventually asks check until it has no objection.
func eventually(t *testing.T, limit time.Duration, what string, check func(context.Context) error) {
	t.Helper()
	if err := lab.Until(t.Context(), limit, what, check); err != nil {
		t.Fatal(err)
	}
}
