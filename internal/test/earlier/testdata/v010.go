// The program that package earlier builds in the code of v0.1.0.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"github.com/fairlead/fairlead/internal/agent"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// saved is as internal/agent of v0.1.0 has it.
type saved struct {
	Version  int
	Node     string
	Written  time.Time
	Proxy    string
	Snapshot *snapshot.Snapshot
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// engine is one that holds everything at once.
type engine struct{}

func (engine) Probe(context.Context) error                              { return nil }
func (engine) Sync(context.Context, *proxy.Table) (proxy.Change, error) { return proxy.Change{}, nil }
func (engine) Dump(context.Context) (*proxy.Table, error)               { return &proxy.Table{}, nil }
func (engine) Cleanup(context.Context) error                            { return nil }

// runAgent is an agent without an API server: it starts from what is saved in dir.
func runAgent(node, dir string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	clients, err := kube.FromConfig(&rest.Config{Host: "https://127.0.0.1:1"})
	if err != nil {
		return err
	}
	a, err := agent.New(agent.Config{
		Node: node, Namespace: "fairlead-system", StateDir: dir, Clients: clients, Dataplane: engine{}, Engine: "none",
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Mode: agent.Full, MembersPort: 7947, SysctlDir: dir,
	})
	if err != nil {
		return err
	}
	return a.Serve(ctx, agent.Addresses{}, prometheus.NewRegistry())
}

func run(args []string) error {
	if args[0] == "agent" {
		return runAgent(args[1], args[2])
	}
	in := json.NewDecoder(os.Stdin)
	if args[0] == "sync" {
		fd, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		table := &proxy.Table{}
		if err := in.Decode(table); err != nil {
			return err
		}
		e := nftables.New(nftables.Options{Netns: fd})
		defer e.Close()
		c, err := e.Sync(context.Background(), table)
		fmt.Printf("%+v\n", c)
		return err
	}
	s := &saved{}
	if err := in.Decode(s); err != nil {
		return err
	}
	if s.Version != 1 || s.Snapshot == nil {
		return fmt.Errorf("of version %d", s.Version)
	}
	if args[0] == "save" {
		return json.NewEncoder(os.Stdout).Encode(s)
	}
	s.Snapshot.Sort()
	fmt.Print(proxy.Compile(s.Snapshot, "n1", nil, proxy.Options{}))
	return nil
}
