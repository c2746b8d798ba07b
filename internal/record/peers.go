package record

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/announcer/observe"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/plain"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Peers returns the writes of how the sessions with every BGPPeer stand, where that
// changed.
func (r *Writer) Peers(s *snapshot.Snapshot, seen observe.Observed) (works []reconcile.Work) {
	for _, p := range s.BGPPeers {
		ready := seen.Peers[p.Name]
		if p.Ready == ready {
			continue
		}
		works = append(works, reconcile.Work{Key: "BGP peer " + p.Name, Do: func(ctx context.Context) error {
			return unlessGone(r.peer(ctx, p, ready))
		}})
	}
	return works
}

func (r *Writer) peer(ctx context.Context, p *snapshot.BGPPeer, ready snapshot.Condition) error {
	obj, err := r.Clients.BGPPeers.Get(ctx, p.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	obj.Status.ObservedGeneration = p.Generation
	meta.SetStatusCondition(&obj.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionStatus(ready.Status), Reason: ready.Reason, Message: plain.Text(ready.Message), ObservedGeneration: p.Generation,
	})
	got, err := r.Clients.BGPPeers.UpdateStatus(ctx, obj, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	r.Store.Written(got)
	return nil
}
