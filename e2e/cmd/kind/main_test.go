package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/kind"
)

// Where no engine answers, the command says what else there is, and exits with 3.
func TestWithoutEngine(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte("#!/bin/sh\necho no daemon >&2; exit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"no docker": t.TempDir(), "no daemon": dir} {
		t.Setenv("PATH", path)
		err := run(context.Background(), kind.Options{}, job{announce: "l2"}, false)
		if exitCode(err) != 3 || !strings.Contains(err.Error(), `"make e2e"`) {
			t.Errorf("%s: exit code %d, %v", name, exitCode(err), err)
		}
	}
	if exitCode(errors.New("other")) != 1 || exitCode(nil) != 0 {
		t.Error("exit codes of other ends")
	}
}

// What nobody can do is said before anything is built for it.
func TestCheck(t *testing.T) {
	for _, bad := range []job{
		{announce: "ipx"}, {announce: "direct"}, {announce: "l2", suite: "storage"}, {announce: "ipx", suite: "zones"},
	} {
		if err := bad.check(); err == nil {
			t.Errorf("%+v is right", bad)
		}
	}
	for _, good := range []job{{}, {announce: "bgp"}, {announce: "direct", suite: "loadbalancers"}} {
		if err := good.check(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
}

func TestLongest(t *testing.T) {
	at := time.UnixMilli
	if got := longest([]time.Time{at(0), at(50), at(750), at(800)}); got != 700*time.Millisecond {
		t.Errorf("%s", got)
	}
	if got := longest([]time.Time{at(0)}); got != 0 {
		t.Errorf("%s", got)
	}
}
