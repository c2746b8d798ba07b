package netlink

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	gosync "sync"
	"syscall"
	"testing"
	"time"
)

// stream is a load of new TCP connections.
type stream struct {
	from    space
	to      netip.AddrPort
	workers int
	rate    int // connections a second, of all workers together; 0: as many as they can
}

// outcomes counts what became of connections.
type outcomes struct {
	opened   int
	failures map[string]int
	when     []time.Duration // of the failures, since the start
}

func (o outcomes) String() string {
	text := fmt.Sprintf("%d connections opened", o.opened)
	for _, what := range slices.Sorted(maps.Keys(o.failures)) {
		text += fmt.Sprintf(", %d %s", o.failures[what], what)
	}
	if len(o.when) > 0 {
		text += fmt.Sprintf(" at %v", o.when[:min(len(o.when), 20)])
	}
	return text
}

// run opens connections until stop is closed. Each is closed with a reset, so
// that ports are free again at once.
func (s stream) run(stop <-chan struct{}) outcomes {
	all := outcomes{failures: map[string]int{}}
	var mu gosync.Mutex
	var wg gosync.WaitGroup
	start := time.Now()
	for range s.workers {
		wg.Go(func() {
			_ = s.from.In(func() error {
				var pace <-chan time.Time
				if s.rate > 0 {
					t := time.NewTicker(time.Second * time.Duration(s.workers) / time.Duration(s.rate))
					defer t.Stop()
					pace = t.C
				}
				for {
					select {
					case <-stop:
						return nil
					default:
					}
					if pace != nil {
						<-pace
					}
					what := s.open()
					mu.Lock()
					if what == "" {
						all.opened++
					} else {
						all.failures[what]++
						all.when = append(all.when, time.Since(start))
					}
					mu.Unlock()
				}
			})
		})
	}
	wg.Wait()
	return all
}

// open opens one connection and says what went wrong, "" for nothing.
func (s stream) open() string {
	c, err := (&net.Dialer{Timeout: 10 * time.Second}).Dial("tcp", s.to.String())
	var ne net.Error
	switch {
	case err == nil:
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
		return ""
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.As(err, &ne) && ne.Timeout():
		return "timed out"
	}
	return strings.ReplaceAll(err.Error(), s.to.String(), "")
}

// during runs the stream while f runs.
func (s stream) during(f func()) outcomes {
	stop, done := make(chan struct{}), make(chan outcomes)
	go func() { done <- s.run(stop) }()
	f()
	close(stop)
	return <-done
}

// unharmed wants that connections were opened, and that none failed.
func unharmed(t *testing.T, o outcomes) {
	t.Helper()
	t.Log(o)
	if len(o.failures) > 0 || o.opened == 0 {
		t.Errorf("%s", o)
	}
}
