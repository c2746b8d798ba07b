package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/internal/job/importer"
)

func importCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "import", Short: "Turn another load balancer's configuration into fairlead's"}
	cmd.AddCommand(importMetalLBCommand())
	return cmd
}

func importMetalLBCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "metallb -f FILE", Args: cobra.NoArgs,
		Short: "Turn MetalLB's configuration into fairlead's",
		Long: `metallb reads MetalLB's IPAddressPools, L2Advertisements, BGPAdvertisements,
BGPPeers, BFDProfiles and Communities and prints AddressPools, Announcements and
BGPPeers. What has no equal is a comment beside the object that lacks it. It talks
to no cluster. docs/migrate-metallb.md tells the whole way.`,
		Example: `  kubectl get -n metallb-system ipaddresspools,l2advertisements,bgpadvertisements,bgppeers,bfdprofiles,communities -o yaml |
    fairlead import metallb -f - >fairlead.yaml`,
	}
	cmd.Flags().StringVarP(&file, "filename", "f", "", "file with the manifests; -: standard input")
	_ = cmd.MarkFlagRequired("filename")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		in := cmd.InOrStdin()
		if file != "-" {
			f, err := os.Open(file)
			if err != nil {
				return err
			}
			defer f.Close()
			in = f
		}
		n, err := importer.MetalLB(cmd.OutOrStdout(), in)
		if err != nil {
			return fmt.Errorf("import metallb: %w", err)
		}
		if n > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "%d comments tell what has no equal or needs a look: grep '^#'\n", n)
		}
		return nil
	}
	return cmd
}
