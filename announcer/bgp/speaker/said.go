package speaker

import (
	"bytes"
	"log/slog"
	"sync"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp/gobgp"
	"github.com/fairlead/fairlead/internal/plain"
)

// What is logged of a session's process at most. A router that has taken it over writes
// what it likes, and as much.
const (
	longestLine  = 1024 // bytes
	linesAMinute = 100
)

// said logs what a process writes, line by line, as text that is safe to print. It is for
// one process, and safe for concurrent use.
type said struct {
	log *slog.Logger

	mu    sync.Mutex
	line  []byte // what was written since the last new line, cut
	since time.Time
	lines int // since then
}

// Write implements io.Writer.
func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(b)
	for len(b) > 0 {
		part, rest, ended := bytes.Cut(b, []byte("\n"))
		s.line = append(s.line, part[:min(len(part), longestLine-len(s.line))]...)
		if b = rest; ended {
			s.tell()
		}
	}
	return n, nil
}

// end logs what has no new line behind it.
func (s *said) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tell()
}

// tell logs the line. s.mu is held.
func (s *said) tell() {
	line := s.line
	s.line = s.line[:0]
	if len(line) == 0 {
		return
	}
	if now := time.Now(); now.Sub(s.since) >= time.Minute {
		s.since, s.lines = now, 0
	}
	switch s.lines++; {
	case s.lines <= linesAMinute:
		s.log.Warn("a BGP session's process says", "text", plain.Cut(string(line), longestLine))
	case s.lines == linesAMinute+1:
		s.log.Warn("a BGP session's process writes more lines than are logged in a minute")
	}
}

// checked is an Answer whose texts are safe to print.
func checked(a gobgp.Answer) gobgp.Answer {
	for _, text := range []*string{&a.Error, &a.Status.State, &a.Status.LastError} {
		*text = plain.Cut(*text, longestLine)
	}
	return a
}
