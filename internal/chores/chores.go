// Package chores is what the leading controller does for the installation itself,
// beside addresses: it keeps the agents' keys, the Pod Security label of its own
// namespace, the roster of the Nodes that agents read, and the objects that the chart's
// values declare.
package chores

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/keyring"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Config says what to keep.
type Config struct {
	Clients   *kube.Clients
	Log       *slog.Logger
	Namespace string // of the installation; "" keeps nothing in it
	Manifests string // AddressPools, Announcements and BGPPeers, as YAML
	// Snapshot returns the cluster, whose NodeStates have the agents' keys; nil while it is
	// not known.
	Snapshot func() *snapshot.Snapshot
	// Nodes returns all Nodes, sorted by name, nil before they are known: see
	// kube.Store.Nodes. Roster is the loop that keeps the roster of them. Wake it when a
	// Node may have changed.
	Nodes  func() []*snapshot.Node
	Roster *reconcile.Loop
}

// NewRoster makes the loop of a Config.
func NewRoster(log *slog.Logger) *reconcile.Loop {
	l := reconcile.New("roster of the Nodes", log)
	l.Coalesce, l.Resync = 200*time.Millisecond, kube.RosterEvery // many Nodes change together
	return l
}

// ManifestsUsage describes the flag of the manifests.
const ManifestsUsage = "YAML of the AddressPools, Announcements and BGPPeers to keep, as the chart's values declare them; those that it declared before are deleted once no Service holds an address of them"

// Run does it until ctx ends.
func Run(ctx context.Context, cfg Config) {
	var all sync.WaitGroup
	defer all.Wait()
	if cfg.Namespace != "" {
		keys := reconcile.New("agents' keys", cfg.Log)
		keys.Resync = keyring.KeepEvery
		all.Go(func() {
			keys.Run(ctx, keyring.Keeper{Client: cfg.Clients.Kube, Namespace: cfg.Namespace, Log: cfg.Log, Snapshot: cfg.Snapshot}.Keep)
		})
		label := reconcile.New("Pod Security label", cfg.Log)
		label.Resync = labelEvery
		nodes := &roster{client: cfg.Clients.Kube, namespace: cfg.Namespace, nodes: cfg.Nodes, loop: cfg.Roster, log: cfg.Log}
		all.Go(func() { cfg.Roster.Run(ctx, nodes.keep) })
		all.Go(func() { label.Run(ctx, (&namespace{client: cfg.Clients.Kube, name: cfg.Namespace, log: cfg.Log}).keep) })
	}
	declare := reconcile.New("declared objects", cfg.Log)
	declare.Resync = declareEvery
	all.Go(func() { declare.Run(ctx, newDeclared(cfg).keep) })
}

// Declare makes the Manifests true once: it makes their objects as they are declared, and
// deletes what was declared before, once no Service holds an address of it.
func Declare(ctx context.Context, cfg Config) error { return newDeclared(cfg).keep(ctx) }

func newDeclared(cfg Config) *declared {
	return &declared{clients: cfg.Clients, manifests: cfg.Manifests, log: cfg.Log}
}
