// Package direct measures in the lab how connections to a VIP reach pods on other nodes
// than its owner: by Masquerade, by Direct, and by kube-proxy; and then by Masquerade and by
// Direct with a router between all nodes. It counts connections and bytes a second, what passes
// the owner's link, and the CPU time of the whole machine.
package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/report"
	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Way is how connections reach the pods.
type Way string

// The ways.
const (
	Masquerade = Way(snapshot.Masquerade)
	Direct     = Way(snapshot.Direct)
	KubeProxy  = Way("kube-proxy") // forwards what fairlead announces
)

// Bench is what to measure.
type Bench struct {
	Lab         *lab.Lab
	Ways        []Way
	Runs        int           // of each way, in turn
	FarRuns     int           // the same with each node in a subnet of its own; 0: none
	Connections time.Duration // for how long they are opened in a run
	Downloads   int           // in a run
	Size        int           // of a download, in bytes
	Values      []string      // of the chart, with which agents direct
	Out         io.Writer     // is told of every run

	vip    string
	owner  demo.Announcer
	client string // the host that connects and downloads
}

// Run measures each way in turn, and adds a line for each run. It ends with the Service
// as it was.
func (b *Bench) Run(ctx context.Context, out *report.Lines) (err error) {
	defer func() { err = errors.Join(err, b.clean(context.WithoutCancel(ctx))) }()
	b.client = lab.Client
	if err := b.deploy(ctx); err != nil {
		return err
	}
	if err := b.turns(ctx, b.Runs, line, out); err != nil || b.FarRuns == 0 {
		return err
	}
	return b.far(ctx, out)
}

// turns measures each way so often, in turn. The lines have the names that name gives them.
func (b *Bench) turns(ctx context.Context, runs int, name func(Way) string, out *report.Lines) error {
	for run := range runs {
		for i := range b.Ways {
			way := b.Ways[(run+i)%len(b.Ways)] // which is first changes
			if err := b.ask(ctx, way); err != nil {
				return fmt.Errorf("%s: %w", way, err)
			}
			m, err := b.measure(ctx)
			if err != nil {
				return fmt.Errorf("%s, run %d: %w", way, run+1, err)
			}
			m.add(out, name(way))
			fmt.Fprintf(b.Out, "%s %d/%d: %s\n", name(way), run+1, runs, m)
		}
	}
	return nil
}

// owned has the owner announce its address to the router, and no other node.
const owned = `apiVersion: fairlead.io/v1alpha1
kind: BGPPeer
metadata: {name: bench}
spec: {address: 198.18.0.254, peerASN: %d, localASN: %d}
---
apiVersion: fairlead.io/v1alpha1
kind: Announcement
metadata: {name: bench}
spec: {nodeSelector: {matchLabels: {kubernetes.io/hostname: %s}}, bgp: {}}
`

// far measures with each node in a subnet of its own. The router is between all of them, and
// the client behind it: there is no layer 2 by which the address could be announced to it.
func (b *Bench) far(ctx context.Context, out *report.Lines) (err error) {
	manifests := fmt.Sprintf(owned, lab.RouterASN, lab.NodeASN, b.owner.Node)
	defer func() {
		ctx := context.WithoutCancel(ctx)
		err = errors.Join(err, b.Lab.JoinLAN(ctx), b.kubectl(ctx, manifests, "delete", "--ignore-not-found"), b.Lab.StopBGP(ctx), b.portsOfClosed(ctx, 2))
		b.client = lab.Client
	}()
	b.client = lab.Ext
	if _, err := b.Lab.StartBGP(ctx, "frr"); err != nil {
		return err
	}
	if err := errors.Join(b.kubectl(ctx, manifests, "apply"), b.Lab.SplitLAN(ctx), b.portsOfClosed(ctx, 1)); err != nil {
		return err
	}
	return b.turns(ctx, b.FarRuns, farLine, out)
}

func (b *Bench) kubectl(ctx context.Context, manifests string, args ...string) error {
	cmd := b.Lab.KubectlCommand(ctx, append(args, "-f", "-")...)
	cmd.Stdin = strings.NewReader(manifests)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl %s: %w: %s", args[0], err, out)
	}
	return nil
}

// portsOfClosed says whether the client uses the port of a connection that it has closed
// again at once (1), or lets it rest for a minute (2, the kernel's default for hosts).
func (b *Bench) portsOfClosed(ctx context.Context, value int) error {
	_, err := b.Lab.Exec(ctx, b.client, "sysctl", "-q", "-w", fmt.Sprintf("net.ipv4.tcp_tw_reuse=%d", value))
	return err
}

// deploy makes a Service whose pods are on other nodes than its owner.
func (b *Bench) deploy(ctx context.Context) error {
	// With 3,000 connections a second all ports rest after ten seconds, and what is measured
	// then is how the client looks for one.
	if err := b.portsOfClosed(ctx, 1); err != nil {
		return err
	}
	if slices.Contains(b.Ways, Direct) {
		if err := b.Lab.ConfigureFairlead(ctx, b.Values...); err != nil {
			return err
		}
	}
	s, err := demo.Deploy(ctx, b.Lab, b.Lab.Root())
	if err != nil {
		return err
	}
	b.vip = s.ExternalIPs[0]
	if err := b.elected(ctx); err != nil {
		return err
	}
	if b.owner, err = demo.FindAnnouncer(ctx, b.Lab, b.vip); err != nil {
		return err
	}
	const elsewhere = `{"spec":{"template":{"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":` +
		`{"nodeSelectorTerms":[{"matchExpressions":[{"key":"kubernetes.io/hostname","operator":"NotIn","values":[%q]}]}]}}}}}}}`
	if _, err := b.Lab.Kubectl(ctx, "patch", "deployment", "web", "--patch", fmt.Sprintf(elsewhere, b.owner.Node)); err != nil {
		return err
	}
	_, err = b.Lab.Kubectl(ctx, "rollout", "status", "deployment/web", "--timeout=3m")
	return err
}

// elected waits until every node may be elected. Until then the VIP may still move to
// another owner.
func (b *Bench) elected(ctx context.Context) error {
	return lab.Until(ctx, 5*time.Minute, "every node to be a candidate", func(ctx context.Context) error {
		for _, node := range b.Lab.Nodes() {
			n, err := b.Lab.Metric(ctx, node, "127.0.0.1:9812", "fairlead_member_candidates")
			if err == nil && int(n) < len(b.Lab.Nodes()) {
				err = fmt.Errorf("%v are, as %s sees it", n, node)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *Bench) clean(ctx context.Context) error {
	_, err := b.Lab.Kubectl(ctx, "annotate", "service", "web", snapshot.AnnotationForwarding+"-")
	_, undo := b.Lab.Kubectl(ctx, "patch", "deployment", "web", "--patch", `{"spec":{"template":{"spec":{"affinity":null}}}}`)
	if slices.Contains(b.Ways, Direct) {
		undo = errors.Join(undo, b.Lab.ConfigureFairlead(ctx))
	}
	return errors.Join(err, undo, b.portsOfClosed(ctx, 2))
}

// ask has the Service forwarded in this way, and waits until a client sees that it is.
func (b *Bench) ask(ctx context.Context, way Way) error {
	if way != KubeProxy {
		if _, err := b.Lab.Kubectl(ctx, "annotate", "--overwrite", "service", "web", snapshot.AnnotationForwarding+"="+string(way)); err != nil {
			return err
		}
	}
	if err := b.forget(ctx); err != nil {
		return err
	}
	return lab.Until(ctx, 3*time.Minute, "connections by "+string(way), func(ctx context.Context) error {
		r, err := b.Lab.Probe(ctx, b.client, demo.URL(b.vip, 80), "-n=60", "-c=4", "-timeout=500ms")
		switch {
		case err != nil:
			return err
		case r.Failures > 0:
			return fmt.Errorf("%d of %d requests failed", r.Failures, r.Requests)
		case slices.Contains(r.Nodes, b.owner.Node):
			return fmt.Errorf("pods of the owner %s still answer", b.owner.Node)
		}
		for source := range r.Sources {
			if b.hidden(source) == (way == Direct) {
				return fmt.Errorf("pods see %s", source)
			}
		}
		return nil
	})
}

// hidden reports whether an address that a pod saw is that of a node and not the client's.
func (b *Bench) hidden(source string) bool { return b.Lab.NodeOf(source) != source }

// forget has all nodes forget the connections of the run before, which have ended. The
// client uses its ports again, and an owner goes on with a connection that it knows.
func (b *Bench) forget(ctx context.Context) error {
	const script = `conntrack --delete --orig-dst "$0" >/dev/null 2>&1 || test -z "$(conntrack --dump --orig-dst "$0" 2>/dev/null)"`
	for _, node := range b.Lab.Nodes() {
		if _, err := b.Lab.Exec(ctx, node, "/bin/sh", "-c", script, b.vip); err != nil {
			return fmt.Errorf("%s does not forget connections to %s: %w", node, b.vip, err)
		}
	}
	return nil
}
