package cli

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/internal/cli/explain"
	"github.com/fairlead/fairlead/internal/job/selftest"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// test is what "helm test" runs, in a pod of the chart's.
func (e *Env) test() *cobra.Command {
	opt := selftest.Options{Port: 80}
	var selector string
	cmd := &cobra.Command{
		Use: "test --service NAME --selector LABELS", Args: cobra.NoArgs, Hidden: true,
		Short: "Make a Service that this pod answers for, and reach it by its address",
		Long: `test is run by "helm test", in a pod. It makes a Service of type LoadBalancer that
selects the pod, waits for its address and for who announces it, connects to it, and
deletes it. If that fails it prints what "fairlead explain" says of it.`,
	}
	f := cmd.Flags()
	f.StringVar(&opt.Service, "service", "fairlead-test", "name of the Service")
	f.StringVar(&selector, "selector", "", "labels of this pod and of no other")
	f.StringVar(&opt.Class, "class", "", "loadBalancerClass of the Service; empty: none")
	f.DurationVar(&opt.Timeout, "timeout", time.Minute, "for each step")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		opt.Namespace, opt.Word = os.Getenv("POD_NAMESPACE"), os.Getenv("POD_NAME")
		if opt.Namespace == "" || opt.Word == "" {
			return blind(errors.New("test runs in a pod with POD_NAMESPACE and POD_NAME: helm test fairlead -n fairlead-system"))
		}
		var err error
		if opt.Selector, err = labels.ConvertSelectorToLabelsMap(selector); err != nil {
			return blind(err)
		}
		c, err := e.Connect()
		if err != nil {
			return blind(err)
		}
		opt.Kube, opt.Out = c.Kube, e.Out
		opt.Why = func(ctx context.Context) { e.why(ctx, snapshot.Ref{Namespace: opt.Namespace, Name: opt.Service}) }
		if err := selftest.Run(cmd.Context(), opt); err != nil {
			return &Exit{Code: 1, Err: err}
		}
		return nil
	}
	return cmd
}

// why prints what explain says, if it can be known.
func (e *Env) why(ctx context.Context, ref snapshot.Ref) {
	o, _, err := e.read(ctx)
	if err != nil {
		e.screen().line("why could not be found out: %v", err)
		return
	}
	if t, ok := explain.Explain(o.State(), ref); ok {
		e.screen().steps(t)
	}
}
