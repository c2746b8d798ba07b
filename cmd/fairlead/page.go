//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/internal/cli"
	"github.com/fairlead/fairlead/internal/cli/survey"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/ui"
	"github.com/fairlead/fairlead/internal/ui/door"
)

// pageFlags are the controller's flags for the page that it serves.
type pageFlags struct {
	address, certificate string
	hosts                []string
}

func (p *pageFlags) add(f *pflag.FlagSet) {
	f.StringVar(&p.address, "page-address", "", "where the page for people is served, over TLS and to those with a token of the cluster; empty: nowhere")
	f.StringVar(&p.certificate, "page-certificate", "", "Secret of the type kubernetes.io/tls with the page's certificate; empty: the controller makes one in the Secret "+door.OwnSecret)
	f.StringSliceVar(&p.hosts, "page-hosts", nil, "host names that the page is served under, beside localhost and those of the certificate")
}

// listen opens the page's port now, and returns what serves it until ctx ends.
func (p *pageFlags) listen(clients *kube.Clients, namespace string, log *slog.Logger) (func(context.Context) error, error) {
	if p.address == "" {
		return func(context.Context) error { return nil }, nil
	}
	if namespace == "" {
		return nil, errors.New("--page-address needs --leader-elect-namespace, where the certificate is")
	}
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		return nil, fmt.Errorf("--page-address: %w", err)
	}
	asked := survey.Accesses(namespace)
	cert := &door.Certificate{Client: clients.Kube, Namespace: namespace, Secret: p.certificate, Names: p.hosts, Log: log}
	opt := ui.Options{Version: version, Question: cli.Question, Namespace: "default"}
	shared := ui.NewShared(opt, door.New(clients.Kube, asked, log), cert, survey.NewLive(clients.Dynamic, time.Now, namespace), asked, log)
	return func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { shared.Run(ctx); return nil })
		g.Go(func() error { return shared.Serve(ctx, l) })
		return g.Wait()
	}, nil
}
