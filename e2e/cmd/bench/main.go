// Command bench measures fairlead. It prints a report, and saves each measurement as
// a line of the Go benchmark format for benchstat.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/bench"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/internal/kube"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := rootCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:gocritic // the process ends: there is nothing left to stop
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{Use: "bench", Short: "Measure fairlead in the lab", SilenceErrors: true, SilenceUsage: true}
	root.PersistentFlags().String("lines", "", "file for what was measured, in the Go benchmark format; none: bench-COMMAND.out")
	root.AddCommand(assignCommand(), proxyCommand(), churnCommand(), largeCommand(), eastWestCommand(), failoverCommand(), directorCommand(), bgpCommand(), sizeCommand())
	return root
}

func assignCommand() *cobra.Command {
	a := bench.Assign{Pool: "198.18.8.0/21", Within: 3 * time.Minute}
	var allow, allowAll time.Duration
	cmd := &cobra.Command{
		Use: "assign", Args: cobra.NoArgs,
		Short: "Create many Services of type LoadBalancer at once, and wait for their addresses",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return inLab(cmd.Context(), func(ctx context.Context, clients *kube.Clients) error {
				a.Clients = clients
				got, err := a.Run(ctx)
				if err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), got)
				if err := save(cmd, got.Lines()); err != nil {
					return err
				}
				if got.P99 > allow || got.AllAfter > allowAll {
					return fmt.Errorf("too slow: p99 may be %s, all %s", allow, allowAll)
				}
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.IntVar(&a.Services, "services", 1000, "how many Services")
	f.IntVar(&a.Writers, "writers", 32, "how many writers create them")
	f.DurationVar(&allow, "p99", 5*time.Second, "fail if the 99th percentile of the waits is longer")
	f.DurationVar(&allowAll, "all", 15*time.Second, "fail if the last address comes later after the last creation")
	return cmd
}

// inLab calls measure with an administrator's clients in a lab.
func inLab(ctx context.Context, measure func(context.Context, *kube.Clients) error) error {
	return withLab(ctx, func(ctx context.Context, l *lab.Lab) error {
		clients, err := kube.Connect(kube.Access{Kubeconfig: l.Kubeconfig(), UserAgent: "bench"})
		if err != nil {
			return err
		}
		return measure(ctx, clients)
	})
}

// withLab calls measure in the lab that is up, as it is, or in one with fairlead
// that is removed afterwards.
func withLab(ctx context.Context, measure func(context.Context, *lab.Lab) error) (err error) {
	l, err := lab.OpenAlone(ctx)
	if err != nil {
		return inFreshLab(ctx, lab.Options{Fairlead: true}, measure)
	}
	defer l.Close()
	return measure(ctx, l)
}

// labIsUp reports whether withLab would measure in a lab that is up.
func labIsUp() bool {
	l, err := lab.Open()
	if err == nil {
		l.Close()
	}
	return err == nil
}

// inFreshLab calls measure in a lab with fairlead that is removed afterwards.
func inFreshLab(ctx context.Context, opt lab.Options, measure func(context.Context, *lab.Lab) error) (err error) {
	l, err := lab.Up(ctx, opt)
	if err != nil {
		return err
	}
	defer l.Close()
	defer func() {
		if down := l.Down(context.WithoutCancel(ctx)); err == nil {
			err = down
		}
	}()
	if err := l.InstallFairlead(ctx); err != nil {
		return err
	}
	return measure(ctx, l)
}
