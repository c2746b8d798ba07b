package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/internal/agent"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/server"
	"github.com/fairlead/fairlead/proxy/nftables"
)

func agentCommand() *cobra.Command {
	cfg := agent.Config{Version: version, Engine: "nftables"}
	var health, metrics string
	var nodePorts, serviceCIDRs []string
	cmd := &cobra.Command{
		Use: "agent", Args: cobra.NoArgs,
		Short: "Forward and announce on this node",
		Long: `agent programs this node's kernel so that ClusterIPs, node ports and external
addresses reach their pods, and announces the addresses that the node is elected
for. When it stops, traffic goes on; "fairlead cleanup" takes everything out.`,
	}
	access, logger := accessFlags(cmd), logFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&cfg.Node, "node-name", os.Getenv("NODE_NAME"), "name of this node in Kubernetes")
	f.StringVar(&cfg.StateDir, "state-dir", "/var/lib/fairlead", "folder where the agent keeps its last snapshot, to start from when no API server answers; empty: nowhere")
	f.StringSliceVar(&nodePorts, "nodeport-addresses", nil, "CIDRs of the node's addresses on which node ports answer; none: its primary address of each family")
	f.StringSliceVar(&serviceCIDRs, "service-cidrs", nil, "CIDRs of Services beside those of the ServiceCIDR objects; unused addresses in them are dropped")
	f.BoolVar(&cfg.Options.ExternalIPs, "external-ips", false, "serve spec.externalIPs; whoever may create Services can then take any address (CVE-2020-8554)")
	f.StringVar(&health, "health-address", "0.0.0.0:10256", "where /healthz, /livez and /readyz are served; empty: nowhere")
	f.StringVar(&metrics, "metrics-address", "127.0.0.1:10249", "where /metrics and /proxyMode are served; empty: nowhere")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		log, err := logger()
		if err != nil {
			return err
		}
		if cfg.Node == "" {
			return errors.New("--node-name: give the node's name in Kubernetes (or set NODE_NAME)")
		}
		if cfg.NodePortAddresses, err = parsePrefixes("nodeport-addresses", nodePorts); err != nil {
			return err
		}
		if cfg.Options.ServiceCIDRs, err = parsePrefixes("service-cidrs", serviceCIDRs); err != nil {
			return err
		}
		if cfg.Clients, err = kube.Connect(*access); err != nil {
			return err
		}
		reg := registry()
		cfg.Log, cfg.Metrics, cfg.Dataplane = log, reg, nftables.New(nftables.Options{Log: log})
		a, err := agent.New(cfg)
		if err != nil {
			return err
		}
		probes := http.NewServeMux()
		a.Health().Register(probes)
		serveHealth, err := server.Listen(health, probes)
		if err != nil {
			return err
		}
		mux := server.Metrics(reg)
		mux.HandleFunc("/proxyMode", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, cfg.Engine) })
		serveMetrics, err := server.Listen(metrics, mux)
		if err != nil {
			return err
		}
		log.Info("fairlead agent", "version", version, "node", cfg.Node)
		g, ctx := errgroup.WithContext(cmd.Context())
		g.Go(func() error { return serveHealth(ctx) })
		g.Go(func() error { return serveMetrics(ctx) })
		g.Go(func() error { return a.Run(ctx) })
		return g.Wait()
	}
	return cmd
}

func parsePrefixes(flag string, texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, t := range texts {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			return nil, fmt.Errorf("--%s: %q is no CIDR", flag, t)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}
