package speaker

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/announcer/bgp/gobgp"
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
