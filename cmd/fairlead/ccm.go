//go:build linux

package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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
	"github.com/fairlead/fairlead/internal/kube"
)

// ccmLease is the name of the Lease; the framework's own would be that of the
// cluster's real cloud controller manager.
const ccmLease = "fairlead-ccm"

// ccmOptions are flags of our own.
type ccmOptions struct {
	servers []string
	nodes   bool // initialise Nodes
}

// ccmCommand is Kubernetes' cloud controller manager with our provider, the service
// controller, and on request the node controller. The others are not there: they
// would ask for machines that fairlead does not know, and delete Nodes.
func ccmCommand() *cobra.Command {
	opt, err := options.NewCloudControllerManagerOptions()
	if err != nil {
		panic(err) // a mistake in the framework's own defaults
	}
	opt.KubeCloudShared.CloudProvider.Name = cloud.Name
	opt.Generic.LeaderElection.ResourceName = ccmLease
	opt.Generic.ClientConnection.QPS, opt.Generic.ClientConnection.Burst = 200, 400
	opt.ServiceController.ConcurrentServiceSyncs = 8
	opt.Authentication.SkipInClusterLookup = true // or it reads a ConfigMap of kube-system

	var o ccmOptions
	own := cliflag.NamedFlagSets{}
	own.FlagSet("fairlead").StringSliceVar(&o.servers, "api-servers", nil, apiServersUsage)
	own.FlagSet("fairlead").BoolVar(&o.nodes, "initialize-nodes", false,
		"Take the taint node.cloudprovider.kubernetes.io/uninitialized from new Nodes and set their addresses, for kubelets with --cloud-provider=external. Never deletes a Node")

	stop := make(chan struct{})
	provider := func(cfg *config.CompletedConfig) cloudprovider.Interface {
		p, err := ccmProvider(cfg, o)
		if err != nil {
			fmt.Fprintln(os.Stderr, "fairlead ccm:", err)
			os.Exit(1) // the framework has no other way
		}
		return p
	}
	cmd := app.NewCloudControllerManagerCommand(opt, provider, ccmControllers(&o), nil, own, stop)
	cmd.Use, cmd.Short = "ccm", "Assign addresses to Services as a cloud controller manager"
	cmd.Long = `ccm is an alternative to "fairlead controller" for clusters that are built around
a cloud controller manager: Kubernetes' own service controller, and fairlead as its
cloud provider. It takes the flags of that framework. Services with a
loadBalancerClass are not served; what else it cannot do is in docs/allocator.md.
It exits when it loses its Lease.`
	// The framework registers --version for every command of the process.
	pflag.CommandLine = pflag.NewFlagSet(os.Args[0], pflag.ExitOnError)
	cmd.PreRun = func(cmd *cobra.Command, _ []string) {
		go func() {
			<-cmd.Context().Done()
			close(stop)
		}()
	}
	return cmd
}

// ccmControllers are the controllers that can run. Whether Nodes are initialised is
// known when o has been read, which is before any of them starts.
func ccmControllers(o *ccmOptions) map[string]app.ControllerInitFuncConstructor {
	as := app.ControllerInitContext{ClientName: "fairlead-ccm"}
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

func ccmProvider(cfg *config.CompletedConfig, o ccmOptions) (*cloud.Provider, error) {
	if err := ccmInTurn(cfg, o.servers); err != nil {
		return nil, err
	}
	clients, err := kube.FromConfig(cfg.Kubeconfig)
	if err != nil {
		return nil, err
	}
	return cloud.New(cloud.Config{
		Clients: clients, Log: slog.New(logr.ToSlogHandler(klog.Background())), Metrics: legacyregistry.Registerer(),
		Namespace: cfg.ComponentConfig.Generic.LeaderElection.ResourceNamespace, Nodes: o.nodes,
	}), nil
}

// ccmInTurn makes the framework try servers in turn. The clients that it has
// made by now know of one; nobody uses them yet.
func ccmInTurn(cfg *config.CompletedConfig, servers []string) error {
	if len(servers) == 0 {
		return nil
	}
	if err := kube.InTurn(cfg.Kubeconfig, servers); err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(cfg.Kubeconfig)
	if err != nil {
		return fmt.Errorf("API client: %w", err)
	}
	cfg.Client, cfg.VersionedClient = client, client
	cfg.SharedInformers = informers.NewSharedInformerFactory(client, cfg.ComponentConfig.Generic.MinResyncPeriod.Duration)
	return nil
}
