// Package stories tells what a user sees of fairlead, on the shipped binary in
// a real cluster. With FAIRLEAD_E2E=1 its tests run in the lab that is up, or
// bring one up and remove it; without, they are skipped.
package stories

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fairlead/fairlead/e2e/lab"
)

var shared *lab.Lab

func TestMain(m *testing.M) {
	if os.Getenv("FAIRLEAD_E2E") != "1" {
		os.Exit(m.Run())
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := inLab(ctx, m)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "stories:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// inLab runs the tests in a lab with fairlead. A lab that was up before stays
// up.
func inLab(ctx context.Context, m *testing.M) (code int, err error) {
	var ours bool
	if shared, ours, err = take(ctx); err != nil {
		return 1, err
	}
	defer shared.Close()
	if ours {
		defer func() {
			if down := shared.Down(context.WithoutCancel(ctx)); down != nil {
				err = down
			}
		}()
	}
	if !ours {
		if err := shared.UpdateHello(ctx); err != nil {
			return 1, err
		}
	}
	if err := shared.InstallFairlead(ctx); err != nil {
		return 1, fmt.Errorf("%w; state at the failure: %s", err, shared.Collect(ctx))
	}
	forget, err := prepare(ctx, shared)
	if err != nil {
		return 1, err
	}
	defer forget()
	// A test that waits cannot see the signal: the lab goes, and it fails.
	done := make(chan int, 1)
	go func() { done <- m.Run() }()
	select {
	case code = <-done:
	case <-ctx.Done():
		return 1, ctx.Err()
	}
	if code != 0 {
		fmt.Fprintln(os.Stderr, "stories: state at the end:", shared.Collect(ctx))
	}
	return code, nil
}

// take is the cluster that was described, the lab that is up, or a new one, which is
// ours to remove.
func take(ctx context.Context) (l *lab.Lab, ours bool, err error) {
	if file := os.Getenv(lab.DescriptionEnv); file != "" {
		d, err := lab.ReadDescription(file)
		if err != nil {
			return nil, false, err
		}
		l, err = lab.Attach(ctx, d)
		return l, false, err
	}
	if l, err = lab.OpenAlone(ctx); err == nil {
		if want := os.Getenv(lab.CNIEnv); want != "" && want != l.CNI() {
			l.Close()
			return nil, false, fmt.Errorf("the lab that is up has the CNI %q, not %q: make demo-down removes it", l.CNI(), want)
		}
		return l, false, nil
	}
	l, err = lab.Up(ctx, lab.Options{Fairlead: true, CNI: os.Getenv(lab.CNIEnv), Kubernetes: os.Getenv(lab.VersionEnv)})
	return l, true, err
}

// prepare gives all stories the pool of the examples, and takes away the rest
// of a demo that was left up: its pods would be among those of the stories.
func prepare(ctx context.Context, l *lab.Lab) (forget func(), err error) {
	examples := filepath.Join(l.Root(), "examples")
	if err := removeWeb(ctx, l); err != nil {
		return nil, err
	}
	there, err := l.Kubectl(ctx, "get", "addresspool", "lan", "--ignore-not-found", "-o", "name")
	if err != nil {
		return nil, err
	}
	if _, err := l.Kubectl(ctx, "apply", "-f", filepath.Join(examples, "pool.yaml")); err != nil {
		return nil, err
	}
	if len(there) > 0 {
		return func() {}, nil
	}
	return func() {
		if _, err := l.Kubectl(context.WithoutCancel(ctx), "delete", "-f", filepath.Join(examples, "pool.yaml")); err != nil {
			fmt.Fprintln(os.Stderr, "stories:", err)
		}
	}, nil
}

// cluster is the lab that the stories share. Without one the test is skipped, and so is a
// story that the cluster cannot run.
func cluster(t *testing.T) *lab.Lab {
	t.Helper()
	if shared == nil {
		t.Skip("FAIRLEAD_E2E is not 1")
	}
	story, _, _ := strings.Cut(t.Name(), "/")
	if why := shared.LeftOut(story); why != "" {
		t.Skip(why)
	}
	return shared
}
