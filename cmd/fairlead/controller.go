//go:build linux

package main

import (
	"fmt"
	"net/http"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/chores"
	"github.com/fairlead/fairlead/internal/controller"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/record"
	"github.com/fairlead/fairlead/internal/server"
)

func controllerCommand() *cobra.Command {
	var health, metrics, namespace, identity, manifests string
	var shown pageFlags
	opt := allocator.Options{}
	cmd := &cobra.Command{
		Use: "controller", Args: cobra.NoArgs,
		Short: "Assign addresses to Services (one leader in the cluster)",
		Long: `controller decides which Service of type LoadBalancer holds which address of the
AddressPools, records that in Address objects, and writes status, conditions and
Events. Several replicas may run; the one that holds the Lease acts.`,
	}
	access, logger := accessFlags(cmd), logFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&opt.Class, "class", v1alpha1.LoadBalancerClass, "spec.loadBalancerClass of the Services that are ours")
	f.BoolVar(&opt.DefaultClass, "default-class", true, "Services without a loadBalancerClass are ours too")
	f.StringVar(&namespace, "leader-elect-namespace", "", "namespace of the installation, with the Lease and the agents' keys; empty: no election, for a single replica, and nothing in the namespace is kept")
	f.StringVar(&identity, "leader-elect-identity", hostname(), "name of this replica in the Lease")
	f.StringVar(&manifests, "manifests", "", chores.ManifestsUsage)
	f.StringVar(&health, "health-address", ":9811", "where /healthz and /readyz are served; empty: nowhere")
	f.StringVar(&metrics, "metrics-address", ":9810", "where /metrics is served; empty: nowhere")
	shown.add(f)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		log, err := logger()
		if err != nil {
			return err
		}
		reg := server.Registry(version)
		access.Written = record.CountWrites(reg)
		clients, err := kube.Connect(*access)
		if err != nil {
			return err
		}
		opt.APIServers = access.Addresses()
		c := controller.New(controller.Config{Clients: clients, Options: opt, Log: log, Metrics: reg, Identity: identity, Namespace: namespace, Manifests: manifests})
		serveHealth, err := server.Listen(health, controllerHealth(c))
		if err != nil {
			return err
		}
		serveMetrics, err := server.Listen(metrics, server.Metrics(reg))
		if err != nil {
			return err
		}
		servePage, err := shown.listen(clients, namespace, log)
		if err != nil {
			return err
		}
		log.Info("fairlead controller", "version", version)
		g, ctx := errgroup.WithContext(cmd.Context())
		g.Go(func() error { return serveHealth(ctx) })
		g.Go(func() error { return serveMetrics(ctx) })
		g.Go(func() error { return servePage(ctx) })
		g.Go(func() error { return c.Run(ctx) })
		return g.Wait()
	}
	return cmd
}

// controllerHealth answers /healthz as long as the process runs, whatever the
// API server does, and /readyz once the cluster has been listed.
func controllerHealth(c *controller.Controller) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !c.Ready() {
			http.Error(w, "the cluster has not been listed yet", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}
