package speaker

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/announcer/bgp/gobgp"
	"github.com/fairlead/fairlead/internal/plain"
)

// A process that answers without an end, as one does that a router has taken over, costs
// the agent no memory: what it says is read up to a limit.
func TestAnswersAreBounded(t *testing.T) {
	ours, in := pipe(t)
	out, theirs := pipe(t)
	written := make(chan int64)
	go func() { _, _ = io.Copy(io.Discard, ours) }()
	go func() {
		_, _ = io.WriteString(theirs, `{"Status":{"LastError":"`)
		n, _ := io.Copy(theirs, io.LimitReader(endless{}, 1<<30))
		written <- n
	}()
	p := process{cmd: &exec.Cmd{}, in: in, out: out}
	err := p.do(gobgp.Order{Do: "status"})
	if err == nil || !strings.Contains(err.Error(), "EOF") {
		t.Errorf("an answer without an end: %v", err)
	}
	_ = out.Close()
	if n := <-written; n > 4<<20 {
		t.Errorf("%d bytes of the answer were taken in", n)
	}
}

// endless is text without an end.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'a'
	}
	return len(b), nil
}

func pipe(t *testing.T) (read, write *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = read.Close(), write.Close() })
	return read, write
}

// What a process writes that a router has taken over is text, however it is cut into
// pieces, and there is an end to it.
func TestAttackByTextOfASession(t *testing.T) {
	hostile := "\x1b]52;c;cm0gLXJm\x07\nlevel=ERROR msg=\"all is lost\"\r\n\xff\u202e\u009b2J"
	var b strings.Builder
	s := &said{log: slog.New(slog.NewTextHandler(&b, nil))}
	for _, size := range []int{1, 7, 1 << 10} {
		for part := range slices.Chunk([]byte(hostile), size) {
			if n, err := s.Write(part); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
		}
		s.end()
	}
	_, _ = io.CopyN(s, endless{}, 1<<20)
	s.end()
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	for _, line := range lines {
		if plain.Text(line) != line || !strings.Contains(line, `msg="a BGP session's process says" text=`) || len(line) > 4*longestLine {
			t.Errorf("%.200q is logged", line)
		}
	}
	if len(lines) != 10 {
		t.Errorf("%d lines are logged", len(lines))
	}
	b.Reset()
	_, _ = s.Write(bytes.Repeat([]byte("a\n"), 100_000))
	logged := strings.Count(b.String(), "\n")
	t.Logf("attack: a session's process that writes escapes, and 100,000 lines: escaped, and %d lines are logged", logged)
	if logged > linesAMinute {
		t.Errorf("%d lines are logged", logged)
	}
}

// So are the texts of its answers.
func TestAnswersAreText(t *testing.T) {
	ours, in := pipe(t)
	out, theirs := pipe(t)
	go func() { _, _ = io.Copy(io.Discard, ours) }()
	go func() {
		_, _ = io.WriteString(theirs, `{"Status":{"State":"\u001b[2J","LastError":"\u001b]52;c;AA\u0007\nall is well"},"Error":"\u202e`+strings.Repeat("a", 2*longestLine)+`"}`)
	}()
	p := process{cmd: &exec.Cmd{}, in: in, out: out}
	err := p.do(gobgp.Order{Do: "status"})
	for _, text := range []string{err.Error(), p.status.State, p.status.LastError} {
		if plain.Text(text) != text || len(text) > longestLine || text == "" {
			t.Errorf("%.100q", text)
		}
	}
}
