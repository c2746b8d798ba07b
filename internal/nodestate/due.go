// Package nodestate keeps the NodeState of one node current in the API: it decides
// when a write is worth it, and writes.
package nodestate

import (
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// when is when the status of a NodeState is to be written. The zero value is that of an
// agent that starts.
type when struct {
	written *v1alpha1.NodeStateStatus // nil: nothing
	renew   time.Time
	soft    time.Time // when soft changes are to be written; zero if nothing soft has changed
}

// next returns when status is to be written, which is now if it is not after now.
// witness is announcer.Witness, and nodes how many there are.
func (w *when) next(status v1alpha1.NodeStateStatus, witness func(string) bool, nodes int, now time.Time) time.Time {
	switch {
	case w.written == nil || !samePrompt(status, *w.written, witness):
		return now
	case reflect.DeepEqual(status, *w.written):
		w.soft = time.Time{}
		return w.renew
	case w.soft.IsZero():
		within := snapshot.WrittenWithin(nodes)
		w.soft = now.Add(within/2 + rand.N(within/2))
	}
	if w.renew.Before(w.soft) {
		return w.renew
	}
	return w.soft
}

// wrote takes in that status was written.
func (w *when) wrote(status v1alpha1.NodeStateStatus, now time.Time) {
	*w = when{written: &status, renew: now.Add(snapshot.RenewEvery + rand.N(snapshot.RenewEvery/2))}
}

// samePrompt reports whether a and b have the same prompt.
func samePrompt(a, b v1alpha1.NodeStateStatus, witness func(string) bool) bool {
	if diff.Same(a.Announces, b.Announces) { // as usual: there may be a thousand
		a.Announces, b.Announces = nil, nil
	}
	return reflect.DeepEqual(prompt(a, witness), prompt(b, witness))
}

// prompt returns the part of st whose changes are written at once. What it leaves out
// changes on every node together, or with every pod, or with every attempt of a session:
// of what all nodes do alike, the witnesses say it at once.
func prompt(st v1alpha1.NodeStateStatus, witness func(string) bool) v1alpha1.NodeStateStatus {
	st.RenewTime = nil
	st.Prefixes = nil // a router tells all nodes at the same moment
	st.Engine.Services, st.Engine.Endpoints, st.Engine.LocalPods, st.Engine.Accelerator.LeftCount = 0, 0, nil, 0
	var announces []v1alpha1.AnnouncedAddress
	for _, a := range st.Announces {
		// Over BGP every node announces every address.
		if a.Link != "" || witness(a.Address) {
			announces = append(announces, a)
		}
	}
	st.Announces, st.AnnouncesCount = announces, 0
	peers := make([]v1alpha1.PeerState, len(st.Peers))
	for i, p := range st.Peers {
		peers[i] = v1alpha1.PeerState{Name: p.Name, Address: p.Address}
		// While there is no session its state and error change with every attempt.
		if p.State == snapshot.PeerEstablished || p.State == snapshot.PeerRefused {
			peers[i].State, peers[i].LastError, peers[i].BFD = p.State, p.LastError, p.BFD
		}
	}
	st.Peers = peers
	return st
}
