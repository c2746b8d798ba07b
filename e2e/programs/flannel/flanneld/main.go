// Command flanneld is flannel with the API as its store, on the node $NODE_NAME. It runs
// flannel's own packages in the order of its main package, as k3s does. That package needs C
// for one backend.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"

	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
	"github.com/flannel-io/flannel/pkg/trafficmngr/iptables"
)

const (
	subnetFile = "/run/flannel/subnet.env"
	resync     = 5 // seconds
)

func main() {
	kubeconfig, config := flag.String("kubeconfig", "", "kubeconfig file"), flag.String("config", "", "file with the network and its backend")
	link := flag.String("iface", "eth0", "link to the other nodes")
	flag.Parse()
	if err := run(context.Background(), *kubeconfig, *config, *link); err != nil {
		fmt.Fprintln(os.Stderr, "flanneld:", err)
		os.Exit(1)
	}
}

// run never returns nil.
func run(ctx context.Context, kubeconfig, file, link string) error {
	store, err := kube.NewSubnetManager(ctx, "", kubeconfig, "flannel.alpha.coreos.com", file, false)
	if err != nil {
		return err
	}
	config, err := store.GetNetworkConfig(ctx)
	if err != nil {
		return err
	}
	var wait sync.WaitGroup
	network, err := register(ctx, &wait, store, config, link)
	if err != nil {
		return err
	}
	if err := masquerade(ctx, config, network); err != nil {
		return err
	}
	lease := network.Lease()
	if err := store.HandleSubnetFile(subnetFile, config, true, lease.Subnet, lease.IPv6Subnet, network.MTU()); err != nil {
		return err
	}
	wait.Go(func() { network.Run(ctx) })
	if err := store.CompleteLease(ctx, lease, &wait); err != nil {
		return err
	}
	wait.Wait()
	return fmt.Errorf("the backend %s ended", config.BackendType)
}

// register makes the node part of the network, by the backend that config names.
func register(ctx context.Context, wait *sync.WaitGroup, store subnet.Manager, config *subnet.Config, link string) (backend.Network, error) {
	families, err := ipmatch.GetIPFamily(config.EnableIPv4, config.EnableIPv6)
	if err != nil {
		return nil, err
	}
	uplink, err := ipmatch.LookupExtIface(link, "", "", families, ipmatch.PublicIPOpts{})
	if err != nil {
		return nil, err
	}
	b, err := backend.NewManager(ctx, store, uplink).GetBackend(config.BackendType)
	if err != nil {
		return nil, err
	}
	return b.RegisterNetwork(ctx, wait, config)
}

// masquerade has pods leave the network with the node's address, and packets of pods forwarded.
func masquerade(ctx context.Context, config *subnet.Config, network backend.Network) error {
	rules := &iptables.IPTablesManager{}
	if err := rules.Init(ctx); err != nil {
		return err
	}
	lease := network.Lease() // and as before: a node of the lab never gets another
	err := rules.SetupAndEnsureMasqRules(ctx, config.Network, lease.Subnet, config.Network,
		config.IPv6Network, lease.IPv6Subnet, config.IPv6Network, lease, resync, false)
	if err != nil {
		return err
	}
	rules.SetupAndEnsureForwardRules(ctx, config.Network, config.IPv6Network, resync)
	return nil
}
