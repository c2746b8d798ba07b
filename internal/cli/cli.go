// Package cli is the commands for people: what they read, how it is printed and
// what they exit with. What they say is decided elsewhere.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/fairlead/fairlead/internal/cli/survey"
)

// Exit is how a command ends: 1 if it found something wrong, 2 if it could not
// look.
type Exit struct {
	Code int
	Err  error // nil if everything has been printed
}

func (e *Exit) Error() string {
	if e.Err == nil {
		return "problems were found"
	}
	return e.Err.Error()
}

func (e *Exit) Unwrap() error { return e.Err }

// blind is the Exit of a command that could not look.
func blind(err error) error {
	if err == nil {
		return nil
	}
	return &Exit{Code: 2, Err: err}
}

// wrong is the Exit of a command that found something wrong.
func wrong(found bool) error {
	if found {
		return &Exit{Code: 1}
	}
	return nil
}

// Client is how the commands reach the API server.
type Client struct {
	Dynamic dynamic.Interface
	Watch   dynamic.Interface // Dynamic without a time limit, which would end a watch; nil: Dynamic
	Kube    kubernetes.Interface
	Now     func() time.Time // by the API server's clock
}

// Env is what the commands share.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	Version  string
	// Connect makes the Client. It is called when a command needs it.
	Connect func() (*Client, error)
	// Namespace is that of --namespace, which is then given, or of the kubeconfig's
	// context; nil: default.
	Namespace func() (name string, given bool, err error)
	// Colour reports whether Out shows colours.
	Colour bool
}

// Commands returns the commands for people, with the flags of kubectl for the
// cluster to talk to.
func Commands(version string) []*cobra.Command {
	flags := genericclioptions.NewConfigFlags(true)
	env := &Env{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Version: version, Colour: colours(os.Stdout)}
	env.Connect = func() (*Client, error) { return connect(flags, version) }
	env.Namespace = func() (string, bool, error) { return flags.ToRawKubeConfigLoader().Namespace() }
	cmds := env.Commands()
	shared := pflag.NewFlagSet("options", pflag.ContinueOnError)
	flags.AddFlags(shared)
	for _, c := range cmds {
		c.Flags().AddFlagSet(shared)
		env.completeShared(c, flags)
		hide(c, shared)
	}
	return append(cmds, options(shared))
}

// shown are the flags for the cluster that every command's help has.
var shown = []string{"kubeconfig", "context", "namespace"}

// hide keeps the other flags for the cluster out of c's help. They are the same for all
// commands, and the ones of the command would be lost among them.
func hide(c *cobra.Command, shared *pflag.FlagSet) {
	help := c.HelpFunc()
	c.SetHelpFunc(func(c *cobra.Command, args []string) {
		shared.VisitAll(func(f *pflag.Flag) { f.Hidden = !slices.Contains(shown, f.Name) })
		help(c, args)
		fmt.Fprintln(c.OutOrStdout(), "\nThe other flags for the cluster are kubectl's: fairlead options")
	})
}

// options is the command that lists the flags for the cluster.
func options(shared *pflag.FlagSet) *cobra.Command {
	return &cobra.Command{
		Use: "options", Short: "List the flags for the cluster, which are kubectl's", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			shared.VisitAll(func(f *pflag.Flag) { f.Hidden = false })
			fmt.Fprint(cmd.OutOrStdout(), shared.FlagUsages())
		},
	}
}

// Commands returns the commands without the flags for the cluster.
func (e *Env) Commands() []*cobra.Command {
	return []*cobra.Command{e.status(), e.explain(), e.trace(), e.doctor(), e.collect(), e.top(), e.rebalance(), e.ui(), e.test()}
}

// colours reports whether f is a terminal whose user wants colours
// (https://no-color.org).
func colours(f *os.File) bool {
	return terminal(f) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func connect(flags *genericclioptions.ConfigFlags, version string) (*Client, error) {
	cfg, err := flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("which cluster? %w", err)
	}
	cfg.UserAgent = "fairlead-cli/" + version
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	return ClientOf(cfg)
}

// ClientOf makes a Client for an API server that is already known. It leaves cfg
// as it is.
func ClientOf(cfg *rest.Config) (*Client, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.QPS, cfg.Burst = 50, 100
	at := &clock{}
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return &timed{next: next, clock: at} })
	d, errD := dynamic.NewForConfig(cfg)
	k, errK := kubernetes.NewForConfig(cfg)
	endless := rest.CopyConfig(cfg)
	endless.Timeout = 0
	w, errW := dynamic.NewForConfig(endless)
	if err := errors.Join(errD, errK, errW); err != nil {
		return nil, fmt.Errorf("API client: %w", err)
	}
	return &Client{Dynamic: d, Watch: w, Kube: k, Now: at.now}, nil
}

// clock is the API server's, as far as its answers tell: a laptop's may be
// minutes off.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

type timed struct {
	next  http.RoundTripper
	clock *clock
}

// fine is the offset below which two clocks count as one: the header has whole
// seconds.
const fine = 2 * time.Second

func (t *timed) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return resp, err
	}
	if at, bad := http.ParseTime(resp.Header.Get("Date")); bad == nil {
		if offset := time.Until(at); offset.Abs() > fine {
			t.clock.mu.Lock()
			t.clock.offset = offset
			t.clock.mu.Unlock()
		}
	}
	return resp, nil
}

// read surveys the cluster.
func (e *Env) read(ctx context.Context) (*survey.Objects, *Client, error) {
	c, err := e.Connect()
	if err != nil {
		return nil, nil, err
	}
	o, err := survey.Read(ctx, c.Dynamic)
	if no := (*url.Error)(nil); errors.As(err, &no) {
		return nil, nil, fmt.Errorf("the API server does not answer; is it the right one (--kubeconfig, --context, KUBECONFIG)? %w", err)
	}
	if err != nil {
		return nil, nil, err
	}
	o.Now = c.Now()
	return o, c, nil
}
