//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer/members"
	"github.com/fairlead/fairlead/internal/agent"
	"github.com/fairlead/fairlead/internal/assist"
	"github.com/fairlead/fairlead/internal/astray"
	"github.com/fairlead/fairlead/internal/egress/kernel"
	"github.com/fairlead/fairlead/internal/gate"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/marks"
	"github.com/fairlead/fairlead/internal/proxies/trace"
	"github.com/fairlead/fairlead/internal/server"
	"github.com/fairlead/fairlead/nodeport"
	"github.com/fairlead/fairlead/nodeport/socket"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
	"github.com/fairlead/fairlead/proxy/nftables/netlink"
)

func agentCommand() *cobra.Command {
	cfg := agent.Config{Version: version, Engine: "nftables"}
	var at agent.Addresses
	var given agentTexts
	var accelerate, directs string
	var guardPorts bool
	cmd := &cobra.Command{
		Use: "agent", Args: cobra.NoArgs,
		Short: "Forward and announce on this node",
		Long: `agent programs this node's kernel so that ClusterIPs, node ports and external
addresses reach their pods, and announces the addresses that the node is elected
for. When it stops, the kernel keeps forwarding; "fairlead cleanup" takes everything out.`,
	}
	access, logger := accessFlags(cmd), logFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&cfg.Node, "node-name", os.Getenv("NODE_NAME"), "name of this node in Kubernetes")
	f.StringVar(&cfg.Namespace, "namespace", cmp.Or(os.Getenv("POD_NAMESPACE"), "fairlead-system"), "namespace of the Secret with the agents' keys, and of --daemonset")
	f.StringVar(&cfg.DaemonSet, "daemonset", "", "DaemonSet in --namespace that runs the agents; once it is deleted, a stop withdraws every address at once; empty: every stop is a restart")
	f.BoolVar(&cfg.CleanOnRemoval, "clean-on-removal", false, "once --daemonset is deleted, a stop takes the rules out of the kernel too, and deletes what is in --state-dir")
	f.Uint16Var(&cfg.MembersPort, "members-port", members.Port, "where the agents speak with each other, encrypted, TCP and UDP; the same on every node")
	f.BoolVar(&guardPorts, "guard-ports", true, "keep all but the nodes' addresses from --members-port, and all but the routers of BGPPeers from BFD and BGP, by the table inet fairlead-ports")
	f.StringVar(&cfg.StateDir, "state-dir", "/var/lib/fairlead", "folder where the agent keeps its last snapshot and keys, to start from when no API server answers; empty: nowhere")
	f.StringVar(&given.mode, "proxy", "auto", "who forwards Services: full (fairlead), off (another proxy; fairlead announces alone), or auto (another proxy if the node shows one, else fairlead)")
	f.BoolVar(&cfg.Force, "proxy-force", false, "forward beside another proxy, while it is being removed; its ports are taken over when they become free")
	f.StringVar(&cfg.OtherHealth, "other-proxy-health", "http://127.0.0.1:10256/healthz", "where the proxy that forwards instead says whether it is in order")
	f.StringSliceVar(&given.nodePorts, "nodeport-addresses", nil, "CIDRs of the node's addresses on which node ports answer; none, or primary: its primary address of each family; localhost: those of TCP at 127.0.0.1 and ::1 as well, for processes of the node")
	f.StringSliceVar(&given.serviceCIDRs, "service-cidrs", nil, "CIDRs of Services beside those of the ServiceCIDR objects; unused addresses in them are dropped")
	f.BoolVar(&cfg.Options.ExternalIPs, "external-ips", false, "serve spec.externalIPs; anybody who may create Services can then take any address (CVE-2020-8554)")
	f.StringSliceVar(&given.refused, "refuse-endpoints", metadata(), "CIDRs where no endpoint may be, beside loopback and link-local addresses; the Services are told. By default metadata services of clouds")
	f.StringVar(&given.detectLocal, "detect-local", "auto", "how packets of this node's pods are known: auto (the Node's podCIDRs, routes to pods' links, EndpointSlices), node-cidr (the podCIDRs alone), cluster-cidr=CIDR,CIDR (sources of all pods), interface-prefix=NAME or bridge=NAME (the link that they come in from)")
	f.StringVar(&given.markBit, "mark-bit", fmt.Sprintf("%#x", nftables.DefaultMark), "the one bit of the packet mark that is used, between the engine's own chains; not kube-proxy's 0x4000")
	f.BoolVar(&cfg.CountBytes, "count-bytes", false, "let the kernel count the bytes of connections (net.netfilter.nf_conntrack_acct), for fairlead top")
	f.StringVar(&cfg.SysctlDir, "sysctl-dir", "/proc/sys", "where the node's kernel settings are; those that are needed are set if that can be written to, and reported if not")
	f.StringVar(&at.Probe, "probe-address", "127.0.0.1:9812", "where /livez, /readyz and /metrics are served, also where another proxy forwards; empty: nowhere")
	f.StringVar(&at.Health, "health-address", "0.0.0.0:10256", "where /healthz and /livez are served as kube-proxy does; left free if another proxy forwards; empty: nowhere")
	f.StringVar(&at.Metrics, "metrics-address", "127.0.0.1:10249", "where /metrics and /proxyMode are served; left free if another proxy forwards; empty: nowhere")
	f.StringVar(&accelerate, "accelerate", "off", "connect the sockets of this node's pods to endpoints directly, by eBPF: auto (where it works) or off")
	f.StringVar(&directs, "director", "off", "pass packets of directed VIPs on to other nodes unchanged, and serve the packets that other nodes pass on, by eBPF: auto (where it works) or off")
	accelerator := ebpfFlags(f)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		log, err := logger()
		if err != nil {
			return err
		}
		if err := server.LimitMemory(); err != nil {
			return err
		}
		mark, err := given.parse(&cfg)
		if err != nil {
			return err
		}
		for _, p := range nodeport.Unserved(cfg.NodePortAddresses) {
			log.Error("--nodeport-addresses names addresses on which node ports are never served", "cidr", p)
		}
		access.OnNode, access.Connected = true, kubeletsServers
		if cfg.Clients, err = kube.Connect(*access); err != nil {
			return err
		}
		cfg.Log, cfg.Links = log, marks.Links(mark)
		engine, serves, err := dataplane(*accelerator, accelerate, netlink.Options{Log: log, Mark: mark})
		if err != nil {
			return err
		}
		cfg.Dataplane, cfg.Accelerator, cfg.Serves = engine, engine, serves
		if cfg.Direct, err = directors(directs, accelerator.Pins, mark, log); err != nil {
			return err
		}
		cfg.Traces = trace.New().Read
		cfg.Assist = assist.New(0)
		cfg.Egress = kernel.New(0, mark)
		cfg.Strays = astray.New(0)
		if guardPorts {
			cfg.Gate = gate.New(0)
		}
		return runAgent(cmd.Context(), cfg, at)
	}
	return cmd
}

// kubeletsServers returns where the node's kubelet may be connected to an API server: at a
// port where API servers are. What it returns is only tried.
func kubeletsServers() []netip.AddrPort {
	at, err := socket.Connected(6443, 443, 8443, 16443)
	if err != nil {
		return nil // one way less to find an API server, which the caller reports
	}
	return at
}

func runAgent(ctx context.Context, cfg agent.Config, at agent.Addresses) error {
	reg := server.Registry(version)
	cfg.Metrics = reg
	a, err := agent.New(cfg)
	if err != nil {
		return err
	}
	cfg.Log.Info("fairlead agent", "version", version, "node", cfg.Node)
	err = a.Serve(ctx, at, reg)
	if errors.Is(err, agent.ErrChanged) {
		// In the same process: a container that ends too often is started late.
		cfg.Log.Info("starting again", "reason", err)
		return unix.Exec("/proc/self/exe", os.Args, os.Environ())
	}
	return err
}

// agentTexts are flags whose texts mean something.
type agentTexts struct {
	mode, detectLocal, markBit string
	nodePorts, serviceCIDRs    []string
	refused                    []string
}

// parse puts what the texts mean into cfg, and returns the bit of the mark.
func (t *agentTexts) parse(cfg *agent.Config) (mark uint32, err error) {
	if cfg.Node == "" {
		return 0, errors.New("--node-name: give the node's name in Kubernetes (or set NODE_NAME)")
	}
	if cfg.Mode, err = agent.ParseMode(t.mode); err != nil {
		return 0, fmt.Errorf("--proxy: %w", err)
	}
	if cfg.NodePortAddresses, cfg.Localhost, err = nodeport.ParseAddresses(t.nodePorts); err != nil {
		return 0, fmt.Errorf("--nodeport-addresses: %w", err)
	}
	if cfg.Options.Local, err = proxy.ParseLocal(t.detectLocal); err != nil {
		return 0, fmt.Errorf("--detect-local: %w", err)
	}
	if mark, err = nftables.ParseMark(t.markBit); err != nil {
		return 0, fmt.Errorf("--mark-bit: %w", err)
	}
	if cfg.Options.Refused, err = parsePrefixes("refuse-endpoints", t.refused); err != nil {
		return 0, err
	}
	cfg.Options.ServiceCIDRs, err = parsePrefixes("service-cidrs", t.serviceCIDRs)
	return mark, err
}

// metadata is proxy.MetadataServices as a flag has them.
func metadata() []string {
	var out []string
	for _, p := range proxy.MetadataServices {
		out = append(out, p.String())
	}
	return out
}

func parsePrefixes(flag string, texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, t := range texts {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			return nil, fmt.Errorf("--%s: %q is not a CIDR", flag, t)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}
