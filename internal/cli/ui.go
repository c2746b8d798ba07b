package cli

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/internal/cli/demo"
	"github.com/fairlead/fairlead/internal/cli/explain"
	"github.com/fairlead/fairlead/internal/cli/survey"
	"github.com/fairlead/fairlead/internal/ui"
)

// stories are the clusters of the demo.
//
//go:embed testdata/base.yaml testdata/*.txtar
var stories embed.FS

func (e *Env) ui() *cobra.Command {
	var address string
	var noBrowser, shown bool
	cmd := &cobra.Command{
		Use: "ui", Args: cobra.NoArgs,
		Short: "Show the cluster as a page in the browser",
		Long: `ui serves a page on this machine and opens the browser: who announces which address
and why, the way of a packet to each Service, nodes, pools, what happened, what is
wrong, and what manifests would do. The page reads with the rights of the kubeconfig,
changes nothing, and is current within a second. The link opens it once; the browser
then has a cookie. The command ends with Ctrl+C.`,
		Example: `  fairlead ui
  fairlead ui --demo`,
	}
	f := cmd.Flags()
	f.StringVar(&address, "address", "127.0.0.1:0", "address and port to serve on; port 0: any free one. On an address that is not of this machine alone, everybody who can read the network can read the link and the page")
	f.BoolVar(&noBrowser, "no-browser", false, "print the link and open no browser")
	f.BoolVar(&shown, "demo", false, "show clusters of the tests instead of a real one")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		opt := ui.Options{Version: e.Version, Question: Question, Namespace: e.namespace()}
		if err := e.source(cmd.Context(), &opt, shown); err != nil {
			return blind(err)
		}
		return blind(e.serve(cmd.Context(), opt, address, !noBrowser))
	}
	return cmd
}

// Question reads the form of a trace as the flags of trace are read.
func Question(from, to, node string) (explain.Question, error) {
	q := explain.Question{Node: node}
	err := question(&q, from, to)
	return q, err
}

// source chooses what the pages show.
func (e *Env) source(ctx context.Context, opt *ui.Options, shown bool) error {
	if shown {
		return demoOf(opt)
	}
	c, err := e.Connect()
	if err != nil {
		return err
	}
	watch := c.Watch
	if watch == nil {
		watch = c.Dynamic
	}
	live := survey.NewLive(watch, c.Now, "")
	go live.Run(ctx)
	opt.Source = live
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := live.Started(wait); err != nil {
		return fmt.Errorf("the API server does not answer; is it the right one (--kubeconfig, --context, KUBECONFIG)? %w", err)
	}
	return nil
}

func demoOf(opt *ui.Options) error {
	files, err := fs.Sub(stories, "testdata")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	clusters, err := demo.Clusters(files)
	if err != nil {
		return err
	}
	opt.Stories = map[string]ui.Source{}
	for _, c := range clusters {
		opt.Stories[c.Name] = c
		opt.Names = append(opt.Names, c.Name)
	}
	slices.SortStableFunc(opt.Names, func(a, b string) int {
		switch demo.First {
		case a:
			return -1
		case b:
			return 1
		}
		return 0
	})
	return nil
}

// serve serves the pages until ctx ends.
func (e *Env) serve(ctx context.Context, opt ui.Options, address string, open bool) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("--address: %w", err)
	}
	at := l.Addr().String()
	if a, err := netip.ParseAddrPort(at); err == nil && !a.Addr().IsLoopback() {
		fmt.Fprintf(e.Err, "The page is served on %s, not on this machine alone, and without encryption: who can read the network can read the link, and then sees what your kubeconfig may see.\n", at)
	}
	s := ui.New(opt, at)
	fmt.Fprintf(e.Out, "The page is at %s\nThe link opens it once. Ctrl+C ends it.\n", s.Link())
	if open {
		openBrowser(ctx, s.Link())
	}
	return s.Serve(ctx, l)
}

// openBrowser starts the user's browser, if there is one: the link is printed anyway.
func openBrowser(ctx context.Context, link string) {
	name, args := "xdg-open", []string{link}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", link}
	}
	if cmd := exec.CommandContext(context.WithoutCancel(ctx), name, args...); cmd.Start() == nil {
		go func() { _ = cmd.Wait() }()
	}
}
