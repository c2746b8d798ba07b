// Command lab brings up, uses and removes a Kubernetes cluster on this
// machine, and shows in it what fairlead does.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	err := rootCommand().ExecuteContext(ctx)
	if err == nil {
		return
	}
	// kubectl, helm and exec have said what is wrong; their status is ours.
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && isPassed(err) {
		os.Exit(max(exit.ExitCode(), 1)) //nolint:gocritic // the process ends: there is nothing left to stop
	}
	fmt.Fprintln(os.Stderr, "lab:", err)
	os.Exit(1)
}
