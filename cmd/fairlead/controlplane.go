//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/internal/agent"
	"github.com/fairlead/fairlead/internal/controlplane"
	"github.com/fairlead/fairlead/internal/controlplane/livez"
	"github.com/fairlead/fairlead/internal/controlplane/manifest"
	"github.com/fairlead/fairlead/internal/controlplane/nodes"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/server"
)

// controlPlaneTexts are the flags of control-plane, as written.
type controlPlaneTexts struct {
	cfg                              agent.ControlPlaneConfig
	addresses, members, peers        []string
	own, passwordFile                string
	caFile, kubeconfig, probeAddress string
}

func controlPlaneCommand() *cobra.Command {
	var t controlPlaneTexts
	cmd := &cobra.Command{
		Use: "control-plane", Args: cobra.NoArgs,
		Short: "Announce the API server's own address from a control-plane node",
		Long: `control-plane announces the address of the API server from one of the control-plane
nodes, and has the kernel take its packets to that node's kube-apiserver. It needs no
API server. It runs on every control-plane node, with the same flags, as the static pod
that "fairlead control-plane manifest" prints. When it stops, the address stays for 30 s.`,
	}
	logger := logFlag(cmd)
	t.flags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		log, err := logger()
		if err != nil {
			return err
		}
		if err := errors.Join(server.LimitMemory(), t.parse()); err != nil {
			return err
		}
		return t.run(cmd.Context(), log)
	}
	cmd.AddCommand(controlPlaneManifestCommand(), controlPlaneCleanupCommand())
	return cmd
}

func (t *controlPlaneTexts) flags(f *pflag.FlagSet) {
	f.StringSliceVar(&t.addresses, "address", nil, "the API server's address, or one of each family; no node has it")
	f.Uint16Var(&t.cfg.Port, "port", 6443, "port of the API server, at --address and on the nodes")
	f.StringSliceVar(&t.members, "members", nil, "addresses of the control-plane nodes, one of each, all of one family; the same on every node")
	f.StringVar(&t.own, "node-address", "", "this node's address, if --members does not have it and it is not the one in the subnet of --address")
	f.StringVar(&t.cfg.KeyFile, "key-file", "/etc/fairlead/control-plane/members.key", "file with the key that the nodes speak with: 32 bytes in base64, a line each; the first encrypts, all decrypt; mode 0600")
	f.Uint16Var(&t.cfg.MembersPort, "members-port", controlplane.MembersPort, "where the control-plane nodes speak with each other, encrypted, TCP and UDP; the same on every node")
	f.StringSliceVar(&t.cfg.Interfaces, "interfaces", nil, "names or patterns of the links to announce on; none: those whose subnet has --address")
	f.StringVar(&t.caFile, "ca-file", "", "certificate of the cluster's CA, to check this node's kube-apiserver by; empty: any certificate will do")
	f.StringVar(&t.kubeconfig, "kubeconfig", "", "credentials that may list and watch Nodes: members are also taken from the cluster, once it runs; empty: --members alone")
	f.StringVar(&t.cfg.StateDir, "state-dir", "/var/lib/fairlead-control-plane", "folder where the cluster's members are kept; empty: nowhere")
	f.StringVar(&t.probeAddress, "probe-address", "127.0.0.1:9813", "where /livez, /readyz and /metrics are served; empty: nowhere")
	f.Uint32Var(&t.cfg.BGP.ASN, "bgp-asn", 0, "this node's AS number; with --bgp-peer the address is announced over BGP, and not by ARP or NDP")
	f.StringSliceVar(&t.peers, "bgp-peer", nil, "routers with their AS numbers, as 192.0.2.1=64500")
	f.StringVar(&t.passwordFile, "bgp-password-file", "", "file with the password of the BGP sessions")
}

// parse puts what the texts mean into t.cfg.
func (t *controlPlaneTexts) parse() (err error) {
	if t.cfg.Addresses, err = parseAddrs("address", t.addresses); err != nil {
		return err
	}
	if t.cfg.Members, err = parseAddrs("members", t.members); err != nil {
		return err
	}
	if t.own != "" {
		if t.cfg.Own, err = netip.ParseAddr(t.own); err != nil {
			return fmt.Errorf("--node-address: %q is not an address", t.own)
		}
	}
	for _, text := range t.peers {
		addr, asn, _ := strings.Cut(text, "=")
		p := controlplane.Peer{}
		if p.Addr, err = netip.ParseAddr(addr); err != nil {
			return fmt.Errorf("--bgp-peer: %q is not an address with an AS number, as in 192.0.2.1=64500", text)
		}
		n, err := strconv.ParseUint(asn, 10, 32)
		if err != nil {
			return fmt.Errorf("--bgp-peer: %q is not an address with an AS number, as in 192.0.2.1=64500", text)
		}
		p.ASN = uint32(n)
		t.cfg.BGP.Peers = append(t.cfg.BGP.Peers, p)
	}
	return t.cfg.Validate()
}

func parseAddrs(flag string, texts []string) (out []netip.Addr, err error) {
	for _, text := range texts {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("--%s: %q is not an address", flag, text)
		}
		out = append(out, a.Unmap())
	}
	return out, nil
}

// run runs until ctx ends. A node may start this before its links are up.
func (t *controlPlaneTexts) run(ctx context.Context, log *slog.Logger) error {
	reg := server.Registry(version)
	t.cfg.Log, t.cfg.Metrics = log, reg
	t.cfg.Ask = func(own netip.Addr) func(context.Context) (controlplane.Answer, error) {
		return livez.New(netip.AddrPortFrom(own, t.cfg.Port), t.caFile).Ask
	}
	if t.kubeconfig != "" {
		t.cfg.Follow = t.follow
	}
	if t.passwordFile != "" {
		text, err := os.ReadFile(t.passwordFile)
		if err != nil {
			return fmt.Errorf("--bgp-password-file: %w", err)
		}
		t.cfg.BGP.Password = strings.TrimSpace(string(text))
	}
	c, err := agent.NewControlPlane(t.cfg)
	if err != nil {
		return err
	}
	serve, err := server.Listen(t.probeAddress, probesOf(c, reg))
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serve(ctx) })
	g.Go(func() error { return c.Run(ctx) })
	return g.Wait()
}

// follow follows the cluster's Nodes. The file may be there only later: it is made once the
// cluster runs.
func (t *controlPlaneTexts) follow(ctx context.Context, own netip.Addr, known func([]netip.Addr)) error {
	clients, err := kube.Connect(kube.Access{Kubeconfig: t.kubeconfig, UserAgent: "fairlead-control-plane/" + version})
	if err != nil {
		return err
	}
	return nodes.Follow(ctx, clients.Kube, own, known)
}

// probesOf serves what the kubelet and Prometheus ask.
func probesOf(c *agent.ControlPlane, reg prometheus.Gatherer) *http.ServeMux {
	mux := server.Metrics(reg)
	for path, check := range map[string]func() error{"/livez": c.Alive, "/readyz": c.Ready} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			if err := check(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			_, _ = w.Write([]byte("ok\n"))
		})
	}
	return mux
}

// release is the form of a release's version. A build between two releases has more.
var release = regexp.MustCompile(`^v?(\d+\.\d+\.\d+(?:-rc\.\d+)?)$`)

// releaseImage returns the image of a version, where the chart has it; "" if it is not a
// release's.
func releaseImage(version string) string {
	m := release.FindStringSubmatch(version)
	if m == nil {
		return ""
	}
	return "ghcr.io/fairlead/fairlead:" + m[1]
}

func controlPlaneManifestCommand() *cobra.Command {
	var t controlPlaneTexts
	var image string
	cmd := &cobra.Command{
		Use: "manifest", Args: cobra.NoArgs,
		Short: "Print the static pod that runs control-plane",
		Long: `manifest prints the static pod that runs "fairlead control-plane" with the flags given
here. It is the same on every control-plane node, and asks no cluster.`,
	}
	t.flags(cmd.Flags())
	cmd.Flags().StringVar(&image, "image", releaseImage(version), "image of the pod; by default that of this version")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := t.parse(); err != nil {
			return err
		}
		o := manifest.Options{
			Image: image, Args: argsOf(cmd.Flags()), BGP: len(t.peers) > 0,
			KeyFile: t.cfg.KeyFile, CAFile: t.caFile, Kubeconfig: t.kubeconfig, StateDir: t.cfg.StateDir, PasswordFile: t.passwordFile,
		}
		if t.probeAddress != "" {
			at, err := netip.ParseAddrPort(t.probeAddress)
			if err != nil {
				return fmt.Errorf("--probe-address: %q is not an address with a port", t.probeAddress)
			}
			o.Probe = at
		}
		text, err := manifest.Render(o)
		if err == nil {
			_, err = cmd.OutOrStdout().Write(text)
		}
		return err
	}
	return cmd
}

// argsOf returns the flags of fs that were given, without those of manifest alone.
func argsOf(fs *pflag.FlagSet) (out []string) {
	fs.Visit(func(f *pflag.Flag) {
		value := f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(list.GetSlice(), ",")
		}
		if f.Name != "image" {
			out = append(out, "--"+f.Name+"="+value)
		}
	})
	return out
}

func controlPlaneCleanupCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cleanup", Args: cobra.NoArgs,
		Short: "Remove what control-plane left in this node's kernel",
		Long: `cleanup removes the tables netdev and inet fairlead-control-plane and with them the API
server's address from this node. Remove the static pod first, which puts them back.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := agent.CleanupControlPlane(); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "removed the tables netdev fairlead-control-plane and inet fairlead-control-plane")
			return nil
		},
	}
}
