package chores

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

const (
	// rosterFrom is how many Nodes a cluster has for which a roster is kept. In a smaller
	// one an agent that watches the Nodes themselves is sent less than 2 KiB a second.
	// rosterUntil is at how many an existing roster is given up.
	rosterFrom, rosterUntil = 50, 40
	// readRosterEvery is how often the leader looks whether anybody else changed it.
	readRosterEvery = 5 * time.Minute
)

// roster keeps what agents read of all Nodes: see kube.RosterOf.
type roster struct {
	client    kubernetes.Interface
	namespace string
	nodes     func() []*snapshot.Node // nil before they are known
	loop      *reconcile.Loop         // of keep
	log       *slog.Logger

	have    map[string]*corev1.ConfigMap // as they were last read or written, by name; nil: not known
	read    time.Time                    // when all of have was
	written []*snapshot.Node             // that have shows
	counted int                          // that the head shows
	renewed time.Time                    // when the head was written
}

// keep writes what differs, and the head when it is due.
func (r *roster) keep(ctx context.Context) error {
	nodes := r.nodes()
	if nodes == nil {
		return nil
	}
	err := r.write(ctx, nodes)
	if err != nil {
		r.have = nil // another leader may have written too
		return fmt.Errorf("roster of the Nodes: %w", err)
	}
	return nil
}

func (r *roster) write(ctx context.Context, nodes []*snapshot.Node) error {
	if r.have == nil || time.Since(r.read) > readRosterEvery {
		if err := r.recall(ctx); err != nil {
			return err
		}
	}
	if _, kept := r.have[kube.RosterHead]; len(nodes) < rosterUntil || !kept && len(nodes) < rosterFrom {
		return r.giveUp(ctx)
	}
	if !diff.Same(nodes, r.written) {
		want, err := kube.RosterOf(nodes)
		if err != nil {
			return err
		}
		if err := r.writeParts(ctx, want); err != nil {
			return err
		}
		r.written = nodes
	}
	return r.renew(ctx, len(nodes))
}

// recall reads what there is.
func (r *roster) recall(ctx context.Context) error {
	list, err := r.client.CoreV1().ConfigMaps(r.namespace).List(ctx, metav1.ListOptions{LabelSelector: kube.RosterLabel})
	if err != nil {
		return err
	}
	r.have, r.read, r.written, r.counted = map[string]*corev1.ConfigMap{}, time.Now(), nil, -1
	for i := range list.Items {
		r.have[list.Items[i].Name] = &list.Items[i]
	}
	return nil
}

// writeParts makes want the data of the parts, by their names. Parts that it does not
// have are deleted.
func (r *roster) writeParts(ctx context.Context, want map[string]map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if err := r.put(ctx, name, want[name]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.have)) {
		if _, wanted := want[name]; wanted || name == kube.RosterHead {
			continue
		}
		if err := r.drop(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// renew writes the head if it does not name so many nodes, or is due. Agents take a
// changed number of Nodes in when they see it in the head: so the head is last.
func (r *roster) renew(ctx context.Context, nodes int) error {
	now := time.Now()
	if r.counted != nodes || now.Sub(r.renewed) >= kube.RosterEvery {
		if r.have[kube.RosterHead] == nil {
			r.log.Info("keeping a roster of the Nodes, which agents follow in their place", "nodes", nodes)
		}
		if err := r.put(ctx, kube.RosterHead, kube.HeadOf(nodes, now)); err != nil {
			return err
		}
		r.counted, r.renewed = nodes, now
	}
	r.loop.At(r.renewed.Add(kube.RosterEvery))
	return nil
}

// giveUp deletes the roster, the head first: agents then read the Nodes themselves.
func (r *roster) giveUp(ctx context.Context) error {
	r.written = nil
	if err := r.drop(ctx, kube.RosterHead); err != nil {
		return err
	}
	return r.writeParts(ctx, nil)
}

// put makes data that of the ConfigMap.
func (r *roster) put(ctx context.Context, name string, data map[string]string) error {
	all, have := r.client.CoreV1().ConfigMaps(r.namespace), r.have[name]
	if have != nil && maps.Equal(have.Data, data) {
		return nil
	}
	ours := map[string]string{kube.RosterLabel: ""}
	var err error
	if have == nil {
		have, err = all.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: name, Labels: ours}, Data: data}, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			return r.keepAs(name, have, err)
		}
		// Somebody took its label away: then it was not listed.
		if have, err = all.Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
	}
	have = have.DeepCopy()
	have.Labels, have.Data = ours, data
	have, err = all.Update(ctx, have, metav1.UpdateOptions{})
	return r.keepAs(name, have, err)
}

// keepAs remembers what a write of the ConfigMap returned.
func (r *roster) keepAs(name string, cm *corev1.ConfigMap, err error) error {
	if err == nil {
		r.have[name] = cm
	}
	return err
}

// drop deletes the ConfigMap, if there is one.
func (r *roster) drop(ctx context.Context, name string) error {
	have := r.have[name]
	if have == nil {
		return nil
	}
	err := r.client.CoreV1().ConfigMaps(r.namespace).Delete(ctx, name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(have.UID))})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	delete(r.have, name)
	return nil
}
