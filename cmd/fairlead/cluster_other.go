//go:build !linux

package main

import "github.com/spf13/cobra"

// clusterCommands are none where there is no Linux kernel to program: this is the
// kubectl plugin on somebody's desk.
func clusterCommands() []*cobra.Command { return nil }
