// Package render runs the pure pipeline over files instead of a cluster: from
// manifests to the plan, the table and the announcements, as text.
package render

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/cli/manifest"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
	"github.com/fairlead/fairlead/proxy"
)

// Render writes what fairlead would make of manifests on node. node "" is the first Node
// in them.
func Render(w io.Writer, manifests *manifest.Manifests, node string, opt allocator.Options) error {
	if err := manifests.Refused(); err != nil {
		return err
	}
	s, notes := cluster(manifests.Objects)
	notes = append(slices.Clone(manifests.Notes), notes...)
	if node == "" && len(s.Nodes) > 0 {
		node = s.Nodes[0].Name
	}
	if s.Node(node) == nil {
		return fmt.Errorf("node %q is not in the files", node)
	}
	plan := allocator.Decide(s, opt)
	applyRecords(s, plan)
	table := proxy.Compile(s, node, nodeport.Resolve(s.Node(node), nil, nil), proxy.Options{})
	for _, n := range notes {
		fmt.Fprintf(w, "# %s\n", n)
	}
	section(w, "plan", plan.String())
	section(w, "table of "+node, table.String())
	section(w, "announcements", announcements(s))
	return nil
}

func section(w io.Writer, title, text string) {
	if text == "" {
		text = "(nothing)\n"
	}
	fmt.Fprintf(w, "\n-- %s --\n%s", title, text)
}

// applyRecords applies the plan's records to s, as the controller would.
func applyRecords(s *snapshot.Snapshot, plan *allocator.Plan) {
	s.Addresses, s.NodeAddresses = nil, nil
	for _, a := range plan.Addresses {
		record := &snapshot.Address{Addr: a.Addr, Pool: a.Pool, Node: a.Node, ShareKey: a.ShareKey, Holders: a.Holders}
		if a.Node != "" {
			s.NodeAddresses = append(s.NodeAddresses, record)
			continue
		}
		s.Addresses = append(s.Addresses, record)
	}
	s.Sort()
}

// announcements lists who would announce what, every node being alive, with its
// engine in sync.
func announcements(s *snapshot.Snapshot) string {
	alive, ready := map[string]bool{}, map[netip.Addr]bool{}
	for _, n := range s.Nodes {
		alive[n.Name] = true
	}
	for _, a := range s.Addresses {
		ready[a.Addr] = true
	}
	var b strings.Builder
	silent := map[string]bool{}
	for _, n := range s.Nodes {
		plan := announcer.Decide(announcer.Input{Snapshot: s, Node: n.Name, Self: s.NodeState(n.Name).Electable, Alive: alive, Ready: ready})
		for _, v := range plan.Announce {
			fmt.Fprintf(&b, "announce %s by %s on %s for %v\n", v.Addr, n.Name, strings.Join(v.Links, ","), v.Services)
		}
		for _, r := range plan.Refused {
			line := fmt.Sprintf("silent %s %s\n", r.Addr, r.Refusal)
			if r.Owner == "" && !silent[line] {
				silent[line] = true
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

// Complete adds to manifests what Kubernetes would add to Services, but a stand-in for
// nodes only if a pool gives their addresses.
func Complete(objects []runtime.Object) []runtime.Object {
	st := newStandIns(objects)
	known := len(st.nodes)
	return slices.DeleteFunc(st.objects(), func(o runtime.Object) bool {
		_, node := o.(*corev1.Node)
		return node && known == 0 && st.selected == nil
	})
}

// cluster makes a Snapshot of objects, with stand-ins for what Kubernetes would
// add; the notes say which.
func cluster(objects []runtime.Object) (*snapshot.Snapshot, []string) {
	st := newStandIns(objects)
	b := kube.NewBuilder()
	for _, o := range st.objects() {
		b.Set(o)
	}
	s := b.Snapshot()
	for _, n := range s.Nodes {
		if s.NodeState(n.Name) == nil {
			s.NodeStates = append(s.NodeStates, st.nodeState(n, s.Pools))
		}
	}
	s.Sort()
	return s, st.notes
}
