package lab

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	tests := []struct {
		line string
		want record
		ok   bool
	}{
		{"42 (sh) S 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 123456 789 10", record{42, "123456"}, true},
		{"42 (a) b (c)) R 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 99 789 10", record{42, "99"}, true},
		{"42 (sh) S 1 42", record{}, false},
		{"", record{}, false},
	}
	for _, test := range tests {
		got, err := parseStat(test.line)
		if got != test.want || (err == nil) != test.ok {
			t.Errorf("parseStat(%q) = %v, %v", test.line, got, err)
		}
	}
}

func TestProcessIsFoundAndStopped(t *testing.T) {
	l := testLab(t)
	if err := l.start(process{name: "sleeper", args: []string{"sleep", "600"}}); err != nil {
		t.Fatal(err)
	}
	err := Until(t.Context(), waitLimit, "record", func(context.Context) error {
		if _, ok := l.running("sleeper"); !ok {
			return os.ErrNotExist
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.stop(t.Context(), "sleeper"); err != nil {
		t.Fatal(err)
	}
	if _, ok := l.running("sleeper"); ok {
		t.Error("still running")
	}
	if got := l.records(); len(got) != 0 {
		t.Errorf("records = %v", got)
	}
}

// A command that only waits for another would end without it.
func TestInterruptReachesWhatACommandStarted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	cmd := Interruptible(exec.CommandContext(ctx, "sh", "-c", `sh -c 'trap "echo interrupted; exit" INT; echo began; while :; do sleep 0.1; done'; :`))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, want := range []string{"began", "interrupted"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("it says %q, %v, want %q", lines.Text(), lines.Err(), want)
		}
		interrupt()
	}
	if err := cmd.Wait(); err == nil {
		t.Error("no error after an interrupt")
	}
}

// A pid that somebody else got is not ours to kill.
func TestReusedPIDIsLeftAlone(t *testing.T) {
	l := testLab(t)
	line, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	was, err := parseStat(string(line))
	if err != nil {
		t.Fatal(err)
	}
	start, err := strconv.Atoi(was.start)
	if err != nil {
		t.Fatal(err)
	}
	older := strings.Replace(string(line), was.start, strconv.Itoa(start-1), 1)
	if err := os.WriteFile(l.state.record("other"), []byte(older), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, ok := l.running("other"); ok {
		t.Fatal("taken for ours")
	}
	if err := l.stop(t.Context(), "other"); err != nil {
		t.Error(err)
	}
}

func testLab(t *testing.T) *Lab {
	t.Helper()
	l := &Lab{state: state(filepath.Join(t.TempDir(), "lab")), progress: NewProgress(t.Output())}
	t.Cleanup(l.progress.Close)
	if err := l.state.prepare(); err != nil {
		t.Fatal(err)
	}
	return l
}
