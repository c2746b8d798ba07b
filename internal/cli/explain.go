package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/explain"
	"github.com/fairlead/fairlead/internal/cli/manifest"
	"github.com/fairlead/fairlead/internal/snapshot"
)

func (e *Env) explain() *cobra.Command {
	cmd := &cobra.Command{
		Use: "explain NAMESPACE/SERVICE [-f FILE...]", Args: cobra.ExactArgs(1),
		Short: "Explain step by step why a Service is or is not reached",
		Long: `explain checks everything that a Service of type LoadBalancer needs to be reached
from outside, reports each result, and ends with the one thing to do. Its verdicts
are those that the controller and the agents act on. It exits
with 0 if the Service is reached, 1 if something is wrong, and 2 if it could not
look.`,
		Example:           "  fairlead explain default/web",
		ValidArgsFunction: complete(e.services),
	}
	var files []string
	cmd.Flags().StringArrayVarP(&files, "filename", "f", nil, "file, folder or pattern of manifests to look at instead of the cluster, -: standard input; may be given more than once")
	out := e.outputFlag(cmd, false)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ref, err := e.ref(args[0])
		if err != nil {
			return blind(err)
		}
		state, err := e.stateToExplain(cmd.Context(), files)
		if err != nil {
			return blind(err)
		}
		t, ok := explain.Explain(state, ref)
		if !ok {
			return blind(fmt.Errorf("there is no Service %s: kubectl get services -A", ref))
		}
		if err := out.print(e.Out, "Explanation", t, nil, func() { e.screen().steps(t) }); err != nil {
			return blind(err)
		}
		return wrong(t.Failed() != nil)
	}
	return cmd
}

// stateToExplain reads the files. Without files it reads the cluster.
func (e *Env) stateToExplain(ctx context.Context, files []string) (*cluster.State, error) {
	if len(files) > 0 {
		m, err := manifest.Load(files, e.In, e.namespace())
		if err != nil {
			return nil, err
		}
		return stateOf(m), m.Refused()
	}
	o, _, err := e.read(ctx)
	if err != nil {
		return nil, err
	}
	return o.State(), nil
}

// namespace is that of --namespace, or of the kubeconfig's context.
func (e *Env) namespace() string {
	if e.Namespace != nil {
		if ns, _, err := e.Namespace(); err == nil && ns != "" {
			return ns
		}
	}
	return metav1.NamespaceDefault
}

// asked is the namespace of --namespace; "" if the flag is not given.
func (e *Env) asked() string {
	if e.Namespace != nil {
		if ns, given, err := e.Namespace(); err == nil && given {
			return ns
		}
	}
	return ""
}

// ref reads NAMESPACE/NAME, or NAME in the namespace of --namespace or of the context. A
// namespace called svc needs the kind before it.
func (e *Env) ref(text string) (snapshot.Ref, error) {
	for _, kind := range []string{"service/", "services/", "svc/"} {
		text = strings.TrimPrefix(text, kind)
	}
	namespace, name, both := strings.Cut(text, "/")
	if !both {
		namespace, name = e.namespace(), text
	}
	if namespace == "" || name == "" || strings.Contains(name, "/") {
		return snapshot.Ref{}, fmt.Errorf("%q is not NAMESPACE/SERVICE, such as default/web", text)
	}
	return snapshot.Ref{Namespace: namespace, Name: name}, nil
}

func (e *Env) trace() *cobra.Command {
	var from, to string
	var q explain.Question
	cmd := &cobra.Command{
		Use: "trace --from CLIENT --to ADDRESS:PORT[/udp]", Args: cobra.NoArgs,
		Short: "Say what happens to a client's packet",
		Long: `trace says what happens to the first packet of a connection: which node it comes
to, which rule takes it, whether the client may connect, to which endpoints it may
go, and whether the pod sees the client's address. It asks the table that the node's
agent is given; no packet is sent. It exits with 0 if the packet is forwarded, 1 if
it is not, and 2 if it could not look.`,
		Example: `  fairlead trace --from 198.51.100.7 --to 192.0.2.10:80
  fairlead trace --from 2001:db8:1::7 --to [2001:db8::10]:53/udp --node worker-2`,
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "address of the client: a host outside, a pod or a node; with its port, such as 198.51.100.7:40000, for the slot of a directed address")
	f.StringVar(&to, "to", "", "address and port, with /udp or /sctp if it is not TCP: a VIP, a cluster IP or a node's address")
	f.StringVar(&q.Node, "node", "", "node that the packet comes to; empty: the one that it would come to")
	_ = cmd.RegisterFlagCompletionFunc("node", complete(e.nodes))
	_ = cmd.RegisterFlagCompletionFunc("to", complete(e.frontends))
	out := e.outputFlag(cmd, false)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := question(&q, from, to); err != nil {
			return blind(err)
		}
		o, _, err := e.read(cmd.Context())
		if err != nil {
			return blind(err)
		}
		t, err := explain.Packet(o.State(), q)
		if err != nil {
			return blind(err)
		}
		if err := out.print(e.Out, "Trace", t, nil, func() { e.screen().steps(t) }); err != nil {
			return blind(err)
		}
		return wrong(t.Failed() != nil)
	}
	return cmd
}

var protocols = map[string]snapshot.Protocol{"tcp": snapshot.TCP, "udp": snapshot.UDP, "sctp": snapshot.SCTP}

// question reads the flags of trace.
func question(q *explain.Question, from, to string) error {
	var ok bool
	if at, err := netip.ParseAddrPort(from); err == nil {
		from, q.Port = at.Addr().String(), at.Port()
	}
	if q.From, ok = snapshot.ParseAddr(from); !ok {
		return fmt.Errorf("--from: %q is not an address: give the client's, such as --from 198.51.100.7", from)
	}
	text, proto, given := strings.Cut(to, "/")
	if q.Protocol = snapshot.TCP; given {
		if q.Protocol, ok = protocols[strings.ToLower(proto)]; !ok {
			return fmt.Errorf("--to: %q is not one of tcp, udp, sctp", proto)
		}
	}
	var err error
	if q.To, err = netip.ParseAddrPort(text); err != nil {
		return fmt.Errorf("--to: %w", unreadable(text))
	}
	if q.From.Is4() != q.To.Addr().Is4() {
		return fmt.Errorf("--from %s and --to %s are of different families", q.From, q.To.Addr())
	}
	return nil
}

func unreadable(text string) error {
	if _, ok := snapshot.ParseAddr(text); ok {
		return fmt.Errorf("%s has no port: write %s", text, netip.AddrPortFrom(netip.MustParseAddr(text), 80))
	}
	if i := strings.LastIndex(text, ":"); i > 0 {
		if _, err := strconv.ParseUint(text[i+1:], 10, 16); err == nil {
			return fmt.Errorf("%q is not an address; names are not looked up", text[:i])
		}
	}
	return errors.New("give ADDRESS:PORT, such as 192.0.2.10:80")
}
