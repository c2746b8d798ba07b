package lab

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestHeartbeatTellsWhatIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := NewProgress(&out)
		s := p.Begin("building things")
		s.Waiting("package %s", "a/b")
		time.Sleep(heartbeat + 2*time.Second)
		synctest.Wait()
		s.Used(3 * time.Second)
		s.Done(nil)
		p.Close()
		synctest.Wait()
		for _, want := range []string{"[   0.0s] building things\n", "still: building things", "package a/b", "done in 12.0 s, 3 s of CPU\n"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q is not in:\n%s", want, out.String())
			}
		}
	})
}
