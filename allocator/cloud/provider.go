package cloud

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	toolsrecord "k8s.io/client-go/tools/record"
	cloudprovider "k8s.io/cloud-provider"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/chores"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/record"
)

// Name is the provider's name, and what --cloud-provider has to be.
const Name = "fairlead"

// retry is after what time the service controller asks again for a Service that
// got no address. A fixed time, because its own backoff grows to five minutes.
const retry = 5 * time.Second

// Config is what a Provider is made of.
type Config struct {
	Clients *kube.Clients
	Log     *slog.Logger
	Metrics prometheus.Registerer // may be nil
	// Namespace of the installation, with the agents' keys; "" keeps nothing in it.
	Namespace string
	Manifests string // of the objects that the installation declares; see chores.Config
	// Nodes says that new Nodes have to be initialised.
	Nodes bool
}

// Provider is the cloud provider. New starts nothing.
type Provider struct {
	Config
	options allocator.Options
	store   *kube.Store
	writer  *record.Writer
	metrics *record.Metrics
	loop    *reconcile.Loop
	roster  *reconcile.Loop
	items   *reconcile.Items
	events  toolsrecord.EventRecorder
	changed broadcast
}

var _ cloudprovider.Interface = (*Provider)(nil)

// New makes a Provider. It serves Services without a loadBalancerClass: the
// service controller asks for no others.
func New(cfg Config) *Provider {
	p := &Provider{
		Config: cfg, options: allocator.Options{DefaultClass: true},
		metrics: record.NewMetrics(cfg.Metrics), loop: reconcile.New("keeper", cfg.Log), roster: chores.NewRoster(cfg.Log),
	}
	p.loop.Coalesce, p.loop.Resync = 20*time.Millisecond, time.Minute
	p.items = reconcile.NewItems(cfg.Log, p.loop.Wake)
	p.store = kube.NewStore(cfg.Clients, func() { p.changed.ring(); p.loop.Wake(); p.roster.Wake() })
	p.store.WithoutEndpoints = true
	p.writer = &record.Writer{Clients: cfg.Clients, Store: p.store, Log: cfg.Log}
	return p
}

// Initialize follows the cluster until stop is closed. It returns when
// everything has been listed once: nobody is refused because of what has not
// been seen yet.
func (p *Provider) Initialize(_ cloudprovider.ControllerClientBuilder, stop <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-stop
		cancel()
	}()
	go func() {
		if err := p.store.Run(ctx); err != nil {
			p.Log.Error("the cluster cannot be followed", "error", err)
		}
	}()
	for !p.store.Synced() {
		heard := p.changed.next()
		if p.store.Synced() {
			break
		}
		select {
		case <-heard:
		case <-stop:
			return
		}
	}
	broadcaster := toolsrecord.NewBroadcaster(toolsrecord.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: p.Clients.Kube.CoreV1().Events("")})
	p.events = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "fairlead-ccm"})
	p.metrics.Lead(true) // this process ends when it loses its Lease
	go p.loop.Run(ctx, p.keep)
	servers := reconcile.New("API servers", p.Log)
	servers.Resync = kube.LearnEvery
	go servers.Run(ctx, p.Clients.LearnServers)
	go chores.Run(ctx, chores.Config{Clients: p.Clients, Log: p.Log, Namespace: p.Namespace, Manifests: p.Manifests, Snapshot: p.store.Snapshot, Nodes: p.store.Nodes, Roster: p.roster})
}

// LoadBalancer returns what the service controller calls.
func (p *Provider) LoadBalancer() (cloudprovider.LoadBalancer, bool) { return balancer{p}, true }

// Instances are not ours: fairlead does not know machines.
func (p *Provider) Instances() (cloudprovider.Instances, bool) { return nil, false }

// InstancesV2 returns what the cloud node controller asks for, if Nodes have to be
// initialised.
func (p *Provider) InstancesV2() (cloudprovider.InstancesV2, bool) { return instances{}, p.Nodes }

// Zones are not ours.
func (p *Provider) Zones() (cloudprovider.Zones, bool) { return nil, false }

// Clusters are not ours.
func (p *Provider) Clusters() (cloudprovider.Clusters, bool) { return nil, false }

// Routes are not ours.
func (p *Provider) Routes() (cloudprovider.Routes, bool) { return nil, false }

// ProviderName is Name.
func (p *Provider) ProviderName() string { return Name }

// HasClusterID reports true: nothing outside the cluster carries its name.
func (p *Provider) HasClusterID() bool { return true }
