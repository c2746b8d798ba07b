// Package kube is the way in from the Kubernetes API and back out: it turns API
// objects into the values of internal/snapshot, keeps them current through
// informers, and holds the typed clients that write.
package kube

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// Access says how to reach the API server.
type Access struct {
	Kubeconfig string   // a file; "" means the pod's own service account
	Servers    []string // https URLs to try beside the configured one
	// OnNode is for a process in a node's network: it tries the addresses, too, where
	// distributions have an API server or a proxy on the node itself.
	OnNode bool
	// Connected, if given, returns where other programs of the node are connected. These
	// places are tried last, and only until one has worked.
	Connected func() []netip.AddrPort
	UserAgent string
	// Written, if given, is told every write that the API server answered: the
	// verb as RBAC spells it and the resource, such as "services/status".
	Written func(verb, resource string)
}

// Objects is the client of one cluster-scoped kind.
type Objects[T, L any] interface {
	Get(context.Context, string, metav1.GetOptions) (T, error)
	List(context.Context, metav1.ListOptions) (L, error)
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
	Create(context.Context, T, metav1.CreateOptions) (T, error)
	Update(context.Context, T, metav1.UpdateOptions) (T, error)
	UpdateStatus(context.Context, T, metav1.UpdateOptions) (T, error)
	Delete(context.Context, string, metav1.DeleteOptions) error
}

// Clients are the typed clients of one process.
type Clients struct {
	Kube          kubernetes.Interface
	Pools         Objects[*v1alpha1.AddressPool, *v1alpha1.AddressPoolList]
	Addresses     Objects[*v1alpha1.Address, *v1alpha1.AddressList]
	Announcements Objects[*v1alpha1.Announcement, *v1alpha1.AnnouncementList]
	NodeStates    Objects[*v1alpha1.NodeState, *v1alpha1.NodeStateList]
	BGPPeers      Objects[*v1alpha1.BGPPeer, *v1alpha1.BGPPeerList]
	// Dynamic reads what has no client above.
	Dynamic dynamic.Interface
	// Paths are the ways to the API server; nil if there is just the configured one.
	Paths *Paths
	// Apply applies a manifest of one of fairlead's kinds on the server's side, as
	// manager. It takes over fields that others have set.
	Apply func(ctx context.Context, resource, name, manager string, manifest []byte) error
}

// Connect makes Clients. It does not talk to the API server yet.
func Connect(a Access) (*Clients, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", a.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("API access: %w", err)
	}
	cfg.UserAgent = a.UserAgent
	var paths *Paths
	if a.Kubeconfig == "" || len(a.Servers) > 0 {
		if paths, err = reach(cfg, a.Servers, a.OnNode); err != nil {
			return nil, err
		}
		paths.connected = a.Connected
	}
	if a.Written != nil {
		cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return &writes{next: next, tell: a.Written} })
	}
	clients, err := FromConfig(cfg)
	if err == nil {
		clients.Paths = paths
	}
	return clients, err
}

// FromConfig makes Clients for an API server that is already known. It leaves
// cfg as it is.
func FromConfig(cfg *rest.Config) (*Clients, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.QPS, cfg.Burst = 1000, 2000 // the API server's own fairness limits us
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return &patient{next: next, pause: askAgain} })
	// One for both: a client with a dialer of its own shares no connection otherwise.
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("API client: %w", err)
	}
	core, err := kubernetes.NewForConfigAndClient(protobuf(cfg), client)
	if err != nil {
		return nil, fmt.Errorf("API client: %w", err)
	}
	untyped, err := dynamic.NewForConfigAndClient(cfg, client)
	if err != nil {
		return nil, fmt.Errorf("API client: %w", err)
	}
	own, err := restClient(cfg, client)
	if err != nil {
		return nil, err
	}
	codec := runtime.NewParameterCodec(scheme())
	return &Clients{
		Kube: core, Dynamic: untyped,
		Pools: gentype.NewClientWithList("addresspools", own, codec, "",
			func() *v1alpha1.AddressPool { return &v1alpha1.AddressPool{} }, func() *v1alpha1.AddressPoolList { return &v1alpha1.AddressPoolList{} }),
		Addresses: gentype.NewClientWithList("addresses", own, codec, "",
			func() *v1alpha1.Address { return &v1alpha1.Address{} }, func() *v1alpha1.AddressList { return &v1alpha1.AddressList{} }),
		Announcements: gentype.NewClientWithList("announcements", own, codec, "",
			func() *v1alpha1.Announcement { return &v1alpha1.Announcement{} }, func() *v1alpha1.AnnouncementList { return &v1alpha1.AnnouncementList{} }),
		NodeStates: gentype.NewClientWithList("nodestates", own, codec, "",
			func() *v1alpha1.NodeState { return &v1alpha1.NodeState{} }, func() *v1alpha1.NodeStateList { return &v1alpha1.NodeStateList{} }),
		BGPPeers: gentype.NewClientWithList("bgppeers", own, codec, "",
			func() *v1alpha1.BGPPeer { return &v1alpha1.BGPPeer{} }, func() *v1alpha1.BGPPeerList { return &v1alpha1.BGPPeerList{} }),
		Apply: func(ctx context.Context, resource, name, manager string, manifest []byte) error {
			return own.Patch(types.ApplyYAMLPatchType).Resource(resource).Name(name).Param("fieldManager", manager).Param("force", "true").Body(manifest).Do(ctx).Error()
		},
	}, nil
}

func protobuf(cfg *rest.Config) *rest.Config {
	c := rest.CopyConfig(cfg)
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	return c
}

func restClient(cfg *rest.Config, through *http.Client) (*rest.RESTClient, error) {
	c := rest.CopyConfig(cfg)
	gv := v1alpha1.GroupVersion
	c.GroupVersion, c.APIPath = &gv, "/apis"
	c.ContentType, c.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON // own kinds have no protobuf
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme()).WithoutConversion()
	client, err := rest.RESTClientForConfigAndClient(c, through)
	if err != nil {
		return nil, fmt.Errorf("API client: %w", err)
	}
	return client, nil
}

func scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(s); err != nil {
		panic(err) // a mistake in api/v1alpha1, not a condition of this run
	}
	return s
}

// Addresses returns which of Servers are named by an address, in their order. They belong to
// the cluster's API servers.
func (a Access) Addresses() (out []netip.Addr) {
	for _, text := range a.Servers {
		u, err := url.Parse(text)
		if err != nil {
			continue // reach reports it
		}
		if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
			out = append(out, ip)
		}
	}
	return out
}
