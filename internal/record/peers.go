package record

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// The reasons of a BGPPeer's condition Ready.
const (
	peerEstablished    = "Established"
	peerNotEstablished = "NotEstablished"
	peerRefused        = "Refused"
	peerNoNode         = "NoNode"
)

// Peers writes what the nodes say of every BGPPeer, where that changed.
func (r *Writer) Peers(ctx context.Context, s *snapshot.Snapshot) []error {
	var errs []error
	for _, p := range s.BGPPeers {
		ready := PeerReady(s, p.Name)
		if p.Ready == ready {
			continue
		}
		if err := r.peer(ctx, p, ready); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("BGP peer %s: %w", p.Name, err))
		}
	}
	return errs
}

// PeerReady is the condition Ready of a BGPPeer. It does not say why a session
// is not established, which changes with every attempt: a NodeState does.
func PeerReady(s *snapshot.Snapshot, name string) snapshot.Condition {
	gone, nodes := lost(s), 0
	var without, refused []string
	for _, st := range s.NodeStates {
		for _, p := range st.Peers {
			if p.Name != name {
				continue
			}
			nodes++
			switch {
			case p.State == snapshot.PeerRefused:
				refused = append(refused, st.Node+": "+p.LastError)
			case p.State != snapshot.PeerEstablished || gone[st.Node]:
				without = append(without, st.Node)
			}
		}
	}
	switch {
	case nodes == 0:
		return snapshot.Condition{Status: "False", Reason: peerNoNode, Message: "no node is to have a session"}
	case len(refused) > 0:
		return snapshot.Condition{Status: "False", Reason: peerRefused, Message: short(refused)}
	case len(without) > 0:
		return snapshot.Condition{
			Status: "False", Reason: peerNotEstablished,
			Message: fmt.Sprintf("%d of %d nodes have a session, not %s", nodes-len(without), nodes, short(without)),
		}
	}
	return snapshot.Condition{Status: "True", Reason: peerEstablished, Message: fmt.Sprintf("%d of %d nodes have a session", nodes, nodes)}
}

// short names some of many.
func short(texts []string) string {
	const most = 5
	if len(texts) <= most {
		return strings.Join(texts, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(texts[:most], ", "), len(texts)-most)
}

func (r *Writer) peer(ctx context.Context, p *snapshot.BGPPeer, ready snapshot.Condition) error {
	obj, err := r.Clients.BGPPeers.Get(ctx, p.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	obj.Status.ObservedGeneration = p.Generation
	meta.SetStatusCondition(&obj.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionStatus(ready.Status), Reason: ready.Reason, Message: ready.Message, ObservedGeneration: p.Generation,
	})
	got, err := r.Clients.BGPPeers.UpdateStatus(ctx, obj, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	r.Store.Written(got)
	return nil
}
