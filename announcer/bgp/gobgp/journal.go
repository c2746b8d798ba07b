package gobgp

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/osrg/gobgp/v3/pkg/log"
)

// journal remembers, of what gobgp says of a session, why it is down.
type journal struct {
	log *slog.Logger

	mu          sync.Mutex
	reason      string
	reasonGiven bool // since the last attempt began
}

// setReason takes in why the session is down. It is logged when it is news.
func (j *journal) setReason(reason string) {
	j.mu.Lock()
	news := j.reason != reason
	j.reason, j.reasonGiven = reason, true
	j.mu.Unlock()
	if news {
		j.log.Warn("BGP session", "reason", reason)
	}
}

func (j *journal) last() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.reason
}

func (j *journal) clear() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.reason = ""
}

// begins takes in that an attempt does: why the one before failed is still the
// reason, until this one has ended.
func (j *journal) begins() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.reasonGiven = false
}

// fails takes in that the attempt has ended. What was told of it says more.
func (j *journal) fails(why string) {
	j.mu.Lock()
	told := j.reasonGiven
	j.mu.Unlock()
	if !told {
		j.setReason(why)
	}
}

// notified takes in the code and subcode of a NOTIFICATION of the router's. gobgp says
// nothing of one that comes before the session is up.
func (j *journal) notified(why [2]uint8) {
	fields := log.Fields{"Code": why[0], "Subcode": why[1]}
	j.setReason(describe("received notification", fields))
}

// listener is a server's logger: it picks out what the journal keeps.
type listener struct{ *journal }

// note keeps what says why a session is down.
func (s *listener) note(msg string, fields log.Fields) {
	j := s.journal
	switch msg {
	case "Peer Down":
		// What led to it was told before, in more words.
		if j.last() == "" {
			j.setReason(fmt.Sprint(fields["Reason"]))
		}
	case "state changed":
		s.opening(fmt.Sprint(fields["old"]), fmt.Sprint(fields["new"]), fmt.Sprint(fields["reason"]))
	}
}

// opening follows an attempt that has come as far as the OPENs.
func (s *listener) opening(was, is, why string) {
	switch {
	case is == "BGP_FSM_OPENSENT":
		s.begins()
	case is != "BGP_FSM_IDLE" || was != "BGP_FSM_OPENSENT" && was != "BGP_FSM_OPENCONFIRM":
	case why == "read-failed", why == "write-failed":
		s.fails("the router closes the connection before the session is up: does it know this node's address?")
	default:
		s.fails("the session does not come up: " + why)
	}
}

// warn takes a warning for the reason, with what it tells.
func (s *listener) warn(msg string, fields log.Fields) {
	s.note(msg, fields)
	switch {
	case msg == "sent notification" && s.last() != "":
		return // why it was sent was told before, in more words
	case strings.HasPrefix(msg, "No matching path for withdraw"), msg == "Closed an accepted connection":
		return // a path that never came to a session that is down; a second connection
	}
	s.setReason(describe(msg, fields))
}

// describe is msg with what the fields say about it.
func describe(msg string, fields log.Fields) string {
	var b strings.Builder
	b.WriteString(msg)
	for _, key := range []string{"Error", "error", "Err", "Code", "Subcode", "Communicated-Reason"} {
		if v, ok := fields[key]; ok && fmt.Sprint(v) != "" {
			fmt.Fprintf(&b, ", %s %v%s", strings.ToLower(key), v, meaning(key, v, fields))
		}
	}
	return b.String()
}

// The error codes of a NOTIFICATION (RFC 4271 section 4.5), and the subcodes of
// Cease (RFC 4486, RFC 8538, RFC 9384), which are told of most.
var (
	codes  = []string{1: "message header", 2: "OPEN message", 3: "UPDATE message", 4: "hold timer expired", 5: "finite state machine", cease: "cease"}
	ceases = []string{
		1: "too many prefixes", 2: "administrative shutdown", 3: "peer removed", 4: "administrative reset", 5: "connection rejected",
		6: "configuration changed", 7: "collision of connections", 8: "out of resources", 9: "hard reset", 10: "BFD down",
	}
)

const cease = 6

// meaning says in words what v is, a code or subcode of the NOTIFICATION in fields.
func meaning(key string, v any, fields log.Fields) string {
	var words []string
	switch {
	case key == "Code":
		words = codes
	case key == "Subcode" && fields["Code"] == uint8(cease):
		words = ceases
	}
	if n, ok := v.(uint8); ok && int(n) < len(words) && words[n] != "" {
		return " (" + words[n] + ")"
	}
	return ""
}

// Panic is called by gobgp where its own logic failed.
func (s *listener) Panic(msg string, fields log.Fields) { panic(fmt.Sprint(msg, " ", fields)) }

// Fatal is Error: a session must not end the agent.
func (s *listener) Fatal(msg string, fields log.Fields) { s.warn(msg, fields) }

// Error tells why a session is down.
func (s *listener) Error(msg string, fields log.Fields) { s.warn(msg, fields) }

// Warn tells why a session is down.
func (s *listener) Warn(msg string, fields log.Fields) { s.warn(msg, fields) }

// Info is looked through for the end of a session.
func (s *listener) Info(msg string, fields log.Fields) { s.note(msg, fields) }

// Debug is looked through for the end of a session.
func (s *listener) Debug(msg string, fields log.Fields) { s.note(msg, fields) }

// SetLevel does nothing: what is needed is picked.
func (s *listener) SetLevel(log.LogLevel) {}

// GetLevel asks for everything.
func (s *listener) GetLevel() log.LogLevel { return log.DebugLevel }
