// Package keep writes down what happens in a cluster, in a ConfigMap of the
// installation's namespace: the leading controller calls it.
package keep

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/fairlead/fairlead/internal/history"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// The ConfigMap, which the chart makes, and its key.
const (
	ConfigMap = "fairlead-history"
	Key       = "history.json"
)

// Every is the shortest time between two writes, however much happens.
const Every = 10 * time.Second

// Keeper follows a cluster while its controller leads.
type Keeper struct {
	Client    kubernetes.Interface
	Namespace string // "" keeps nothing
	Log       *slog.Logger

	mu      sync.Mutex
	record  *history.Record // nil until the ConfigMap was read
	last    *snapshot.Snapshot
	changed bool
}

// See takes in a Snapshot. It writes nothing and never waits.
func (k *Keeper) See(s *snapshot.Snapshot, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = s
	if k.record != nil && k.record.Follow(s, now) {
		k.changed = true
	}
}

// Run writes what changed until ctx ends. Each time it begins with what the ConfigMap
// says: another replica may have led meanwhile.
func (k *Keeper) Run(ctx context.Context) {
	if k.Namespace == "" {
		return
	}
	k.mu.Lock()
	k.record, k.last, k.changed = nil, nil, false
	k.mu.Unlock()
	loop := reconcile.New("history", k.Log)
	loop.Resync, loop.MinRetry = Every, Every
	loop.MaxRetry = time.Minute
	loop.Run(ctx, k.Step)
}

// Step reads the ConfigMap if that was not done, and writes what changed.
func (k *Keeper) Step(ctx context.Context) error {
	maps := k.Client.CoreV1().ConfigMaps(k.Namespace)
	if !k.due() {
		return nil
	}
	have, err := maps.Get(ctx, ConfigMap, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil // the chart of an earlier version, which has none
	}
	if err != nil {
		return fmt.Errorf("ConfigMap %s: %w", ConfigMap, err)
	}
	text, err := k.take(have)
	if err != nil || text == "" {
		return err
	}
	have = have.DeepCopy()
	have.Data = map[string]string{Key: text}
	if _, err := maps.Update(ctx, have, metav1.UpdateOptions{}); err != nil {
		k.mu.Lock()
		k.changed = true
		k.mu.Unlock()
		return fmt.Errorf("ConfigMap %s: %w", ConfigMap, err)
	}
	return nil
}

// due reports whether there is something to read or to write.
func (k *Keeper) due() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.record == nil || k.changed
}

// take reads the Record out of the ConfigMap if that was not done, and returns what to
// write; "" for nothing.
func (k *Keeper) take(have *corev1.ConfigMap) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.record == nil {
		k.record = history.Read(have.Data[Key])
		if k.last != nil && k.record.Follow(k.last, time.Now()) {
			k.changed = true
		}
	}
	if !k.changed {
		return "", nil
	}
	k.changed = false
	return k.record.Write()
}
