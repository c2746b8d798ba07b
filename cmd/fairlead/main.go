// Command fairlead is the controller, the agent and the kubectl plugin in one
// binary; see fairlead --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/fairlead/fairlead/internal/cli"
	"github.com/fairlead/fairlead/internal/plain"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if code := exitCode(root().ExecuteContext(ctx)); code != 0 {
		os.Exit(code) //nolint:gocritic // the process ends: there is nothing left to stop
	}
}

// exitCode tells of err, unless the command has done so, and returns what to
// exit with.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	var exit *cli.Exit
	if !errors.As(err, &exit) {
		exit = &cli.Exit{Code: 1, Err: err}
	}
	if exit.Err != nil {
		_, _ = fmt.Fprintf(plain.Writer(os.Stderr), "fairlead: %v\n", exit.Err) // it may quote an object
	}
	return exit.Code
}
