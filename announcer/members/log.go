package members

import (
	"bytes"
	"log"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

// logger passes memberlist's lines on. What matters of them is told by this
// package itself, so they are all of level debug. One is counted: memberlist has
// no other way to say that it could not decrypt something.
func logger(to *slog.Logger, m *metrics) *log.Logger {
	return log.New(&lines{log: to, m: m}, "", 0)
}

type lines struct {
	log    *slog.Logger
	m      *metrics
	warned atomic.Int64 // when a key was last complained of; a row of them is one
}

func (l *lines) Write(b []byte) (int, error) {
	line := string(bytes.TrimSpace(b))
	for _, sign := range []string{"Decrypt packet failed", "could decrypt the message", "state is not encrypted"} {
		if strings.Contains(line, sign) {
			l.m.refused.WithLabelValues(refusedKey).Inc()
			if now := time.Now().Unix(); now-l.warned.Swap(now) > 60 {
				l.log.Warn("another agent uses another key", "message", line)
			}
			break
		}
	}
	l.log.Debug(line)
	return len(b), nil
}
