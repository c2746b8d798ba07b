package cluster

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// together is what all nodes say, put together. In a cluster of 200 nodes with 1,000
// addresses, going through all nodes for each question took minutes.
type together struct {
	silent, words, election sync.Once
	memory                  *Memory

	silentTo map[string][]string // by the node that is not heard
	heard    []*snapshot.NodeState
	says     map[netip.Addr][]Says
	owners   []announcer.Refused
	owner    map[netip.Addr]*announcer.Refused
}

// SilentTo returns which other agents say that they do not hear that of node. In a large
// cluster its witnesses alone say it.
func (s *State) SilentTo(node string) (by []string) {
	s.silent.Do(func() {
		s.silentTo = map[string][]string{}
		for _, a := range s.NodeStates {
			if s.overdue(a) {
				continue
			}
			for _, m := range a.Silent {
				if list := s.silentTo[m.Node]; m.Node != a.Node && !slices.Contains(list, a.Node) {
					s.silentTo[m.Node] = append(list, a.Node)
				}
			}
		}
	})
	return s.silentTo[node]
}

func (s *State) listen() {
	s.words.Do(func() {
		s.heard = slices.DeleteFunc(slices.Clone(s.NodeStates), s.Silent)
		s.says = map[netip.Addr][]Says{}
		for _, a := range s.heard {
			for _, v := range a.Announces {
				s.says[v.Addr] = append(s.says[v.Addr], Says{a, v})
			}
		}
	})
}

// Heard returns the NodeStates whose agents are not Silent, by node. It is not to be
// changed.
func (s *State) Heard() []*snapshot.NodeState {
	s.listen()
	return s.heard
}

// Announcers returns who says that it announces addr and is still heard of. It is not to
// be changed.
func (s *State) Announcers(addr netip.Addr) []Says {
	s.listen()
	return s.says[addr]
}

// Memory makes the elections of one State after the other of a cluster cheaper. What comes
// out never depends on it. It is safe for concurrent use.
type Memory struct {
	mu      sync.Mutex
	decider announcer.Decider
}

// Remember has s elect with m. It is called before anything is asked of s.
func (s *State) Remember(m *Memory) { s.memory = m }

func (m *Memory) decide(in announcer.Input) announcer.Plan {
	if m == nil {
		return announcer.Decide(in)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.decider.Decide(in)
}

// Owners elects for every address that is held: who should announce it, or why nobody can.
// The caller must not change it.
func (s *State) Owners() []announcer.Refused {
	s.election.Do(func() {
		s.owners, s.owner = s.memory.decide(s.Election()).Refused, map[netip.Addr]*announcer.Refused{}
		for i, r := range s.owners {
			if s.owner[r.Addr] == nil {
				s.owner[r.Addr] = &s.owners[i]
			}
		}
	})
	return s.owners
}

// Owner is Owners for one address; nil if nobody holds it.
func (s *State) Owner(addr netip.Addr) *announcer.Refused {
	s.Owners()
	return s.owner[addr]
}
