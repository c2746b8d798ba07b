//go:build linux

package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/announcer/bgp/gobgp"
	"github.com/fairlead/fairlead/internal/agent"
)

// bgpSessionCommand is what the agent starts for each BGP session.
func bgpSessionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: agent.SessionCommand, Args: cobra.NoArgs, Hidden: true,
		Short: "Hold one BGP session, for the agent that writes to the standard input",
	}
	logger := logFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		log, err := logger()
		if err != nil {
			return err
		}
		// It ends with the agent, whose end closes the standard input.
		signal.Ignore(os.Interrupt, syscall.SIGTERM)
		pipes, err := gobgp.Inherited()
		if err == nil {
			err = gobgp.Serve(cmd.Context(), pipes, log)
		}
		if err != nil {
			return fmt.Errorf("BGP session: %w", err)
		}
		return nil
	}
	return cmd
}
