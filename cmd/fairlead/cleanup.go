package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/proxy/nftables"
)

func cleanupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "cleanup", Args: cobra.NoArgs,
		Short: "Remove every kernel object of fairlead from this node",
		Long: `cleanup removes fairlead's nftables tables and the addresses that it holds on
links. Run it on a node whose agent is gone for good; Services stop answering
there. It succeeds when there is nothing to remove.`,
	}
	logger := logFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		log, err := logger()
		if err != nil {
			return err
		}
		handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("netlink: %w", err)
		}
		defer handle.Close()
		n, errLinks := l2.Cleanup(handle)
		errEngine := nftables.New(nftables.Options{Log: log}).Cleanup(cmd.Context())
		if err := errors.Join(errLinks, errEngine); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "removed %d held addresses and the tables ip fairlead, ip6 fairlead\n", n)
		return nil
	}
	return cmd
}
