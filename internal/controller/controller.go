// Package controller makes the allocator's Plan true in the API: Address
// records, Service status and conditions, pool counters, Events.
// One of its replicas, the leader, acts.
package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	toolsrecord "k8s.io/client-go/tools/record"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/announcer/observe"
	"github.com/fairlead/fairlead/internal/chores"
	"github.com/fairlead/fairlead/internal/history/keep"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/record"
)

// Lease is the name of the Lease that the leader holds.
const Lease = "fairlead-controller"

// Config is what a Controller is made of.
type Config struct {
	Clients  *kube.Clients
	Options  allocator.Options
	Log      *slog.Logger
	Metrics  prometheus.Registerer
	Identity string // of this replica, unique
	// Namespace of the installation, with the Lease and the agents' keys; "" acts without
	// an election, for a single replica, and keeps nothing in the namespace.
	Namespace string
	Manifests string // of the objects that the installation declares; see chores.Config
}

// Controller is one replica. New starts nothing.
type Controller struct {
	Config
	Store     *kube.Store
	Recorder  toolsrecord.EventRecorder
	loop      *reconcile.Loop
	roster    *reconcile.Loop
	metrics   *metrics
	decided   *record.Metrics
	writer    *record.Writer
	history   *keep.Keeper
	items     *reconcile.Items
	inherited sync.Map   // UIDs of the Services with a finalizer of version 0.1
	led       bool       // a step has been made since this replica began to lead
	acting    sync.Mutex // a lost Lease's last step ends before the next one's first
}

// New makes a Controller.
func New(cfg Config) *Controller {
	c := &Controller{Config: cfg, loop: reconcile.New("controller", cfg.Log), roster: chores.NewRoster(cfg.Log), metrics: newMetrics(cfg.Metrics), decided: record.NewMetrics(cfg.Metrics)}
	c.loop.Coalesce, c.loop.Resync = 20*time.Millisecond, time.Minute
	c.items = reconcile.NewItems(cfg.Log, c.loop.Wake)
	c.Store = kube.NewStore(cfg.Clients, func() { c.loop.Wake(); c.roster.Wake() })
	c.Store.WithoutEndpoints = true
	c.history = &keep.Keeper{Client: cfg.Clients.Kube, Namespace: cfg.Namespace, Log: cfg.Log}
	c.writer = &record.Writer{Clients: cfg.Clients, Store: c.Store, Log: cfg.Log}
	return c
}

// Ready reports whether this replica could act if it led.
func (c *Controller) Ready() bool { return c.Store.Synced() }

// Run follows the cluster and, while it leads, acts, until ctx ends. Losing the
// Lease stops the acting only.
func (c *Controller) Run(ctx context.Context) error {
	broadcaster := toolsrecord.NewBroadcaster(toolsrecord.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: c.Clients.Kube.CoreV1().Events("")})
	c.Recorder = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "fairlead-controller"})

	var beside sync.WaitGroup
	defer beside.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- c.Store.Run(ctx) }()
	servers := reconcile.New("API servers", c.Log)
	servers.Resync = kube.LearnEvery
	beside.Go(func() { servers.Run(ctx, c.Clients.LearnServers) })
	for ctx.Err() == nil {
		if err := c.lead(ctx); err != nil {
			cancel()
			return errors.Join(err, <-stopped)
		}
	}
	return <-stopped
}

// lead waits for the Lease and acts until it is lost or ctx ends.
func (c *Controller) lead(ctx context.Context) error {
	if c.Namespace == "" {
		c.act(ctx)
		return nil
	}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: c.Namespace, Name: Lease},
			Client:     c.Clients.Kube.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: c.Identity},
		},
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		ReleaseOnCancel: true, Name: Lease,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: c.act,
			OnStoppedLeading: func() { c.Log.Info("no longer leading") },
		},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	elector.Run(ctx)
	return nil
}

func (c *Controller) act(ctx context.Context) {
	c.acting.Lock()
	defer c.acting.Unlock()
	c.Log.Info("leading", "identity", c.Identity)
	c.decided.Lead(true)
	defer c.decided.Lead(false)
	c.led = false
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() {
		chores.Run(ctx, chores.Config{Clients: c.Clients, Log: c.Log, Namespace: c.Namespace, Manifests: c.Manifests, Snapshot: c.Store.Snapshot, Nodes: c.Store.Nodes, Roster: c.roster})
	})
	beside.Go(func() { c.history.Run(ctx) })
	c.loop.Run(ctx, c.step)
	c.items.Wait()
}

func (c *Controller) step(ctx context.Context) error {
	s := c.Store.Snapshot()
	if s == nil {
		return nil // nothing is acted on before the first full listing
	}
	if !c.led {
		c.led = true
		c.inherit(s)
	}
	began := time.Now()
	opt := c.Options
	opt.Now = began
	plan := allocator.Decide(s, opt)
	took := time.Since(began)
	seen := observe.Observe(s, began)
	c.decided.Decided(plan, seen, took)
	c.history.See(s, began)
	c.apply(ctx, s, plan, seen)
	return nil
}
