package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/manifest"
	"github.com/fairlead/fairlead/internal/job/importer"
)

// source is a load balancer whose configuration can be imported.
type source struct {
	name, title string
	from        importer.From
	reads       string // what it reads, and what it leaves out
	get         string // arguments of kubectl get that print it
}

var sources = []source{
	{
		"metallb", "MetalLB", importer.MetalLB,
		"IPAddressPools, L2Advertisements, BGPAdvertisements,\nBGPPeers, BFDProfiles and Communities",
		"-n metallb-system ipaddresspools,l2advertisements,bgpadvertisements,bgppeers,bfdprofiles,communities",
	},
	{
		"kube-vip", "kube-vip", importer.KubeVIP,
		"the ConfigMap of its cloud provider, the environment of\nits DaemonSet, and annotations of Services",
		"-n kube-system configmap/kubevip daemonset/kube-vip-ds",
	},
	{
		"cilium", "Cilium LB-IPAM", importer.Cilium,
		"CiliumLoadBalancerIPPools, CiliumL2AnnouncementPolicies,\nthe kinds of its BGP control plane, and annotations of Services",
		"-A ciliumloadbalancerippools,ciliuml2announcementpolicies,ciliumbgpclusterconfigs,ciliumbgppeerconfigs,ciliumbgpadvertisements,services",
	},
	{
		"purelb", "PureLB", importer.PureLB,
		"ServiceGroups, the LBNodeAgent, and annotations of Services",
		"-A servicegroups,lbnodeagents,services",
	},
	{
		"k3s", "k3s' ServiceLB", importer.K3s,
		"labels of nodes and of Services",
		"-A nodes,services",
	},
}

func importCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "import", Short: "Translate another load balancer's configuration into fairlead's"}
	for _, s := range sources {
		cmd.AddCommand(s.command())
	}
	return cmd
}

func (s source) command() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use: s.name + " -f FILE...", Args: cobra.NoArgs,
		Short: "Translate the configuration of " + s.title + " into fairlead's",
		Long: s.name + " reads " + s.reads + `, and prints
AddressPools, Announcements and BGPPeers. A comment names what has no equal, beside the
object that lacks it. It talks to no cluster. docs/migrate.md has every step.`,
		Example: "  kubectl get " + s.get + " -o yaml |\n    fairlead import " + s.name + " -f - >fairlead.yaml",
	}
	cmd.Flags().StringArrayVarP(&files, "filename", "f", nil, "file, folder or pattern of manifests, -: standard input; may be given more than once")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if len(files) == 0 {
			return errors.New("give at least one file or folder with -f")
		}
		var objects []importer.Object
		if err := manifest.Each(files, cmd.InOrStdin(), func(o map[string]any, _ string) { objects = append(objects, o) }); err != nil {
			return err
		}
		n, err := s.from(cmd.OutOrStdout(), objects)
		if err != nil {
			return fmt.Errorf("import %s: %w", s.name, err)
		}
		if n > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s to read, about what has no equal or needs a look: grep '^#'\n", cluster.Count(n, "comment"))
		}
		return nil
	}
	return cmd
}
