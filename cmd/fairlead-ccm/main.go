// Command fairlead-ccm is Kubernetes' cloud controller manager with fairlead as its
// cloud provider. It is a program of its own because the framework brings half an
// API server along.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/app"
	"k8s.io/cloud-provider/app/config"
	"k8s.io/cloud-provider/names"
	"k8s.io/cloud-provider/options"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/metrics/legacyregistry"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client-go's metrics
	controllermanager "k8s.io/controller-manager/app"
	"k8s.io/controller-manager/controller"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/allocator/cloud"
	"github.com/fairlead/fairlead/internal/chores"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/stamp"
)

// version and commit are set by the build: -ldflags "-X main.version=…".
var version, commit = "devel", ""

// lease is the name of the Lease; the framework's own would be that of the
// cluster's real cloud controller manager.
const lease = "fairlead-ccm"

// ownOptions are the flags that the framework does not have.
type ownOptions struct {
	servers   []string
	manifests string
	nodes     bool // initialise Nodes
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "fairlead-ccm:", err)
		os.Exit(1) //nolint:gocritic // the process ends: there is nothing left to stop
	}
}

// command is the framework's command with our provider, the service controller,
// and on request the node controller. It leaves out the other controllers: they
// would ask for machines that fairlead does not know, and delete Nodes.
func command() *cobra.Command {
	opt, err := options.NewCloudControllerManagerOptions()
	if err != nil {
		panic(err) // a mistake in the framework's own defaults
	}
	opt.KubeCloudShared.CloudProvider.Name = cloud.Name
	opt.Generic.LeaderElection.ResourceName = lease
	opt.Generic.ClientConnection.QPS, opt.Generic.ClientConnection.Burst = 200, 400
	opt.ServiceController.ConcurrentServiceSyncs = 8
	opt.Authentication.SkipInClusterLookup = true // or it reads a ConfigMap of kube-system

	var o ownOptions
	stop := make(chan struct{})
	provide := func(cfg *config.CompletedConfig) cloudprovider.Interface {
		p, err := provider(cfg, o)
		if err != nil {
			fmt.Fprintln(os.Stderr, "fairlead-ccm:", err)
			os.Exit(1) // the framework has no other way
		}
		return p
	}
	cmd := app.NewCloudControllerManagerCommand(opt, provide, controllers(&o), nil, o.flags(), stop)
	cmd.Use, cmd.Short = "fairlead-ccm", "Assign addresses to Services as a cloud controller manager"
	cmd.Long = `fairlead-ccm is an alternative to "fairlead controller" for clusters that are built
around a cloud controller manager: Kubernetes' own service controller, and fairlead
as its cloud provider. It takes the flags of that framework. It does not serve
Services with a loadBalancerClass; docs/allocator.md lists what else it cannot do.
It exits when it loses its Lease.`
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.PreRun = func(cmd *cobra.Command, _ []string) {
		printVersion(cmd)
		go func() {
			<-cmd.Context().Done()
			close(stop)
		}()
	}
	return cmd
}

func (o *ownOptions) flags() cliflag.NamedFlagSets {
	var sets cliflag.NamedFlagSets
	f := sets.FlagSet("fairlead")
	f.StringSliceVar(&o.servers, "api-servers", nil, "https URLs of API servers to try beside the address that the credentials name")
	f.StringVar(&o.manifests, "manifests", "", chores.ManifestsUsage)
	f.BoolVar(&o.nodes, "initialize-nodes", false,
		"Take the taint node.cloudprovider.kubernetes.io/uninitialized from new Nodes and set their addresses, for kubelets with --cloud-provider=external. Never deletes a Node")
	return sets
}

// printVersion answers --version. The framework would print its own version, as
// that of Kubernetes.
func printVersion(cmd *cobra.Command) {
	if f := cmd.Flags().Lookup("version"); f != nil && f.Changed {
		fmt.Fprintln(cmd.OutOrStdout(), stamp.Line("fairlead-ccm", version, commit))
		os.Exit(0)
	}
}

// controllers are the controllers that can run. They read o when they start, after
// the flags have been parsed.
func controllers(o *ownOptions) map[string]app.ControllerInitFuncConstructor {
	as := app.ControllerInitContext{ClientName: lease}
	nodes := func(as app.ControllerInitContext, cfg *config.CompletedConfig, provider cloudprovider.Interface) app.InitFunc {
		if !o.nodes {
			return func(context.Context, controllermanager.ControllerContext) (controller.Interface, bool, error) {
				return nil, false, nil
			}
		}
		return app.StartCloudNodeControllerWrapper(as, cfg, provider)
	}
	return map[string]app.ControllerInitFuncConstructor{
		names.ServiceLBController: {InitContext: as, Constructor: app.StartServiceControllerWrapper},
		names.CloudNodeController: {InitContext: as, Constructor: nodes},
	}
}

func provider(cfg *config.CompletedConfig, o ownOptions) (*cloud.Provider, error) {
	paths, err := reach(cfg, o.servers)
	if err != nil {
		return nil, err
	}
	clients, err := kube.FromConfig(cfg.Kubeconfig)
	if err != nil {
		return nil, err
	}
	clients.Paths = paths
	return cloud.New(cloud.Config{
		Clients: clients, Log: slog.New(logr.ToSlogHandler(klog.Background())), Metrics: legacyregistry.Registerer(),
		Namespace: cfg.ComponentConfig.Generic.LeaderElection.ResourceNamespace, Nodes: o.nodes, Manifests: o.manifests,
	}), nil
}

// reach gives the framework all ways to the API server. It replaces the clients that
// the framework has made for one address; nothing has used them yet.
func reach(cfg *config.CompletedConfig, servers []string) (*kube.Paths, error) {
	paths, err := kube.Reach(cfg.Kubeconfig, servers)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(cfg.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("API client: %w", err)
	}
	cfg.Client, cfg.VersionedClient = client, client
	cfg.SharedInformers = informers.NewSharedInformerFactory(client, cfg.ComponentConfig.Generic.MinResyncPeriod.Duration)
	return paths, nil
}
