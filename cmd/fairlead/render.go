package main

import (
	"errors"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/cli/manifest"
	"github.com/fairlead/fairlead/internal/cli/render"
)

func renderCommand() *cobra.Command {
	var files []string
	var node, namespace string
	opt := allocator.Options{}
	cmd := &cobra.Command{
		Use: "render -f FILE...", Args: cobra.NoArgs,
		Short: "Print what fairlead would make of manifests, without a cluster",
		Long: `render reads AddressPools, Services, EndpointSlices, Nodes and other objects from files
and prints which Service gets which address and why another gets none, what a
node's engine would hold, and who would announce what. What a cluster would add
(cluster IPs, node ports, pods) has stand-ins, which are named at the top.`,
		Example: "  fairlead render -f examples/",
	}
	f := cmd.Flags()
	f.StringArrayVarP(&files, "filename", "f", nil, "file, folder or pattern of manifests, -: standard input; may be given more than once")
	f.StringVar(&node, "node", "", "node whose table is printed; empty: the first one")
	f.StringVarP(&namespace, "namespace", "n", metav1.NamespaceDefault, "namespace of the objects that name none")
	f.StringVar(&opt.Class, "class", v1alpha1.LoadBalancerClass, "spec.loadBalancerClass of the Services that are ours")
	f.BoolVar(&opt.DefaultClass, "default-class", true, "Services without a loadBalancerClass are ours too")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if len(files) == 0 {
			return errors.New("give at least one file or folder with -f")
		}
		manifests, err := manifest.Load(files, cmd.InOrStdin(), namespace)
		if err != nil {
			return err
		}
		return render.Render(cmd.OutOrStdout(), manifests, node, opt)
	}
	return cmd
}
