package storytest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// said are the kinds of what a node's agent says of more than its links.
var said = []kind{
	{"announces", "", announces},
	{"unlisted", "", unlisted},
	{"refuses", "", refuses},
	{"silent", "", silent},
	{"session", "", session},
	{"finds", "", finds},
	{"problem", "", problem},
}

// sayer returns the NodeState of the node that name begins with, and the other parts
// of name that it needs least of.
func sayer(s *snapshot.Snapshot, name string, least int, a *attrs) (*snapshot.NodeState, []string) {
	parts := strings.Split(name, "/")
	at := slices.IndexFunc(s.NodeStates, func(st *snapshot.NodeState) bool { return st.Node == parts[0] })
	if at < 0 || len(parts) <= least {
		a.errs = append(a.errs, fmt.Errorf("%q does not begin with an agent's node, or lacks a part", name))
		return &snapshot.NodeState{}, make([]string, least)
	}
	return s.NodeStates[at], parts[1:]
}

func announces(s *snapshot.Snapshot, name string, a *attrs) {
	st, parts := sayer(s, name, 1, a)
	out := snapshot.Announced{Addr: a.addr(parts[0]), MAC: a.text("mac"), Peers: a.number("peers"), Leaving: a.flag("leaving")}
	if len(parts) > 1 {
		out.Link = parts[1]
	}
	st.Announces = append(st.Announces, out)
}

func unlisted(s *snapshot.Snapshot, name string, a *attrs) {
	st, _ := sayer(s, name, 0, a)
	st.Unlisted = a.number("count")
}

func refuses(s *snapshot.Snapshot, name string, a *attrs) {
	st, parts := sayer(s, name, 1, a)
	st.Refused = append(st.Refused, snapshot.Refused{
		Addr: a.addr(parts[0]), Refusal: snapshot.Refusal{Reason: snapshot.Reason(a.text("reason")), Message: a.text("why")},
	})
}

func silent(s *snapshot.Snapshot, name string, a *attrs) {
	st, parts := sayer(s, name, 1, a)
	st.Silent = append(st.Silent, snapshot.Silent{Node: parts[0], Verdict: a.text("verdict"), Quarantined: a.flag("quarantined")})
}

func session(s *snapshot.Snapshot, name string, a *attrs) {
	st, parts := sayer(s, name, 1, a)
	st.Peers = append(st.Peers, snapshot.PeerState{Name: parts[0], State: a.text("state"), LastError: a.text("why")})
}

func finds(s *snapshot.Snapshot, name string, a *attrs) {
	st, parts := sayer(s, name, 1, a)
	out := snapshot.Finding{Addr: a.addr(parts[0]), UID: a.text("uid"), Conflict: a.text("conflict"), Claimant: a.text("claimant")}
	if at := a.text("probed"); at != "" {
		out.ProbedAt = each(a, []string{"2026-01-01 " + at}, func(text string) (time.Time, error) { return time.Parse(time.DateTime, text) })[0]
	}
	st.Findings = append(st.Findings, out)
}

func problem(s *snapshot.Snapshot, name string, a *attrs) {
	st, parts := sayer(s, name, 2, a)
	st.Problems = append(st.Problems, snapshot.Problem{
		Service: snapshot.Ref{Namespace: parts[0], Name: parts[1]}, Reason: snapshot.Reason(a.text("reason")), Message: a.text("text"),
	})
}

func (a *attrs) addr(text string) netip.Addr { return each(a, []string{text}, netip.ParseAddr)[0] }
