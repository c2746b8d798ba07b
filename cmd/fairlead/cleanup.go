//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/internal/assist"
	"github.com/fairlead/fairlead/internal/astray"
	"github.com/fairlead/fairlead/internal/controller"
	"github.com/fairlead/fairlead/internal/egress/kernel"
	"github.com/fairlead/fairlead/internal/gate"
	"github.com/fairlead/fairlead/internal/job/retire"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/proxy/director/program"
	"github.com/fairlead/fairlead/proxy/ebpf"
	rules "github.com/fairlead/fairlead/proxy/nftables"
	nftables "github.com/fairlead/fairlead/proxy/nftables/netlink"
)

func cleanupCommand() *cobra.Command {
	var cluster bool
	var accelerator ebpf.Options
	var opt retire.Options
	cmd := &cobra.Command{
		Use: "cleanup", Args: cobra.NoArgs,
		Short: "Remove every kernel object of fairlead from this node, or what it left in the API",
		Long: `cleanup removes fairlead's nftables tables and with them the addresses that the
kernel answers for, its eBPF programs, the routes of answers, and what version 0.1
left on links. Run it on a node whose agent will not come back: Services stop
answering there. With --cluster it removes from the API what no chart owns: fairlead's
finalizers on Services, its Lease, NodeStates and the Secret with the agents' keys;
pools and the record of held addresses stay. It refuses that while fairlead is
installed. It succeeds when there is nothing to remove.`,
	}
	access, logger := accessFlags(cmd), logFlag(cmd)
	f := cmd.Flags()
	bpfDirFlag(f, &accelerator.Pins)
	f.BoolVar(&cluster, "cluster", false, "remove from the API instead of this node; refused while the controller or an agent is installed")
	f.StringVar(&opt.Namespace, "namespace", "fairlead-system", "with --cluster: where fairlead was installed")
	f.StringVar(&opt.Lease, "lease", controller.Lease, "with --cluster: name of the controllers' Lease")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cluster {
			return cleanupCluster(cmd, *access, opt)
		}
		log, err := logger()
		if err != nil {
			return err
		}
		handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("netlink: %w", err)
		}
		defer handle.Close()
		n, errLinks := l2.Cleanup(handle, 0)
		accelerator.Behind, accelerator.Log = nftables.New(nftables.Options{Log: log}), log
		engine := ebpf.New(accelerator)
		programs, errPrograms := engine.Remove()
		directors, errDirectors := program.Remove(directorPins(accelerator.Pins))
		programs += directors
		if err := errors.Join(errLinks, errPrograms, errDirectors, accelerator.Behind.Cleanup(cmd.Context()), gate.New(0).Cleanup(), assist.New(0).Cleanup(), link.Space.Cleanup(), kernel.New(0, rules.DefaultMark).Cleanup(), astray.New(0).Cleanup()); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "removed %d held addresses, %d eBPF programs and the tables ip fairlead, ip6 fairlead, netdev fairlead, inet fairlead-ports, and fairlead-egress, fairlead-director and fairlead-errors of ip and ip6\n", n, programs)
		return nil
	}
	return cmd
}

// askFor is how long an API server that does not answer is asked again.
const askFor = time.Minute

func cleanupCluster(cmd *cobra.Command, access kube.Access, opt retire.Options) error {
	clients, err := kube.Connect(access)
	if err != nil {
		return err
	}
	var all retire.Report
	var last error
	err = wait.PollUntilContextTimeout(cmd.Context(), time.Second, askFor, true, func(ctx context.Context) (bool, error) {
		var r retire.Report
		r, last = retire.Cluster(ctx, clients, opt)
		all.Services += r.Services
		all.NodeStates += r.NodeStates
		if errors.Is(last, retire.ErrRuns) {
			return false, last
		}
		return last == nil, nil
	})
	if errors.Is(err, retire.ErrRuns) {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "took the finalizers off %d Services and removed %d NodeStates, the Lease and the Secret\n", all.Services, all.NodeStates)
	if err != nil {
		return errors.Join(last, err)
	}
	return nil
}
