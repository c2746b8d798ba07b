package record

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Network is how it stands with every address on the network.
type Network struct {
	by       map[netip.Addr][]string // who announces it
	conflict map[netip.Addr]string   // the foreign host that has it
	claimant map[netip.Addr]string   // the foreign host that claims it while it is announced
	refused  map[netip.Addr]string   // why nobody announces it

	holders map[netip.Addr]int             // nodes that hold it on a link and are not to give it away
	reason  map[netip.Addr]snapshot.Reason // refused's
}

// NetworkOf reads the NodeStates, in the order of their names, and the records.
func NetworkOf(s *snapshot.Snapshot) *Network {
	n := &Network{by: map[netip.Addr][]string{}, conflict: map[netip.Addr]string{}, claimant: map[netip.Addr]string{}, refused: map[netip.Addr]string{}, holders: map[netip.Addr]int{}, reason: map[netip.Addr]snapshot.Reason{}}
	type count struct{ nodes, peers int }
	over := map[netip.Addr]count{}                    // BGP
	gone, stale := lost(s), map[netip.Addr][]string{} // of nodes that are lost, or hand over
	for _, st := range s.NodeStates {
		for _, r := range st.Refused {
			if n.refused[r.Addr] == "" {
				n.refused[r.Addr], n.reason[r.Addr] = r.Message, r.Reason
			}
		}
		last := netip.Addr{} // sorted; once a link
		for _, a := range st.Announces {
			if a.Link == "" {
				if a.Peers > 0 {
					over[a.Addr] = count{over[a.Addr].nodes + 1, over[a.Addr].peers + a.Peers}
				}
				continue
			}
			to := n.by
			if a.Leaving || gone[st.Node] {
				to = stale
			} else if a.Addr != last {
				n.holders[a.Addr]++
				last = a.Addr
			}
			to[a.Addr] = append(to[a.Addr], fmt.Sprintf("%s by %s on %s (%s)", a.Addr, st.Node, a.Link, a.MAC))
		}
	}
	for addr, texts := range stale {
		if len(n.by[addr]) == 0 {
			n.by[addr] = texts // until others say that they have it
		}
	}
	for addr, c := range over {
		n.by[addr] = append(n.by[addr], fmt.Sprintf("%s over BGP by %d nodes in %d sessions", addr, c.nodes, c.peers))
	}
	for addr, f := range findings(s) {
		if f.Claimant != "" {
			n.claimant[addr] = f.Claimant
		}
	}
	for _, a := range s.Addresses {
		if a.Conflict != "" {
			n.conflict[a.Addr] = a.Conflict
		}
	}
	return n
}

// lost returns the nodes that most of the others hold for lost: what they last
// said of themselves is history. (A node that is cut off says so of the others.)
func lost(s *snapshot.Snapshot) map[string]bool {
	votes, out := map[string]int{}, map[string]bool{}
	for _, st := range s.NodeStates {
		for _, m := range st.Silent {
			if m.Verdict == announcer.NodeGone.String() {
				votes[m.Node]++
			}
		}
	}
	for node, n := range votes {
		out[node] = 2*n > len(s.NodeStates)-1
	}
	return out
}

// findings merges what the nodes found of the present assignments: the last
// probe counts.
func findings(s *snapshot.Snapshot) map[netip.Addr]snapshot.Finding {
	uids := make(map[netip.Addr]string, len(s.Addresses))
	for _, a := range s.Addresses {
		uids[a.Addr] = a.UID
	}
	out := map[netip.Addr]snapshot.Finding{}
	for _, st := range s.NodeStates {
		for _, f := range st.Findings {
			if f.UID != uids[f.Addr] {
				continue
			}
			last := out[f.Addr]
			if f.ProbedAt.After(last.ProbedAt) {
				last.ProbedAt, last.Conflict = f.ProbedAt, f.Conflict
			}
			if last.Claimant == "" {
				last.Claimant = f.Claimant
			}
			out[f.Addr] = last
		}
	}
	return out
}

// Announced is the condition fairlead.io/Announced of a Service that holds addrs.
func (n *Network) Announced(addrs []netip.Addr) snapshot.Condition {
	var loud, silent, foreign []string
	for _, addr := range addrs {
		loud = append(loud, n.by[addr]...)
		switch {
		case len(n.by[addr]) > 0 && n.claimant[addr] != "":
			foreign = append(foreign, fmt.Sprintf("%s is claimed by %s too, which is no node of this cluster", addr, n.claimant[addr]))
		case len(n.by[addr]) > 0:
		case n.conflict[addr] != "":
			foreign = append(foreign, fmt.Sprintf("no node announces %s: %s has it, which is no node of this cluster", addr, n.conflict[addr]))
			silent = append(silent, "")
		case n.refused[addr] != "":
			silent = append(silent, fmt.Sprintf("%s (%s)", addr, n.refused[addr]))
		default:
			silent = append(silent, addr.String())
		}
	}
	c := snapshot.Condition{Status: "True", Reason: "Announced", Message: strings.Join(loud, "; ")}
	if len(silent) > 0 {
		c = snapshot.Condition{Status: "False", Reason: "NotAnnounced"}
		if silent = slices.DeleteFunc(silent, func(a string) bool { return a == "" }); len(silent) > 0 {
			c.Message = "no node announces " + strings.Join(silent, ", ")
		}
	}
	if len(foreign) > 0 {
		c.Reason = string(announcer.AddressConflict)
		c.Message = strings.Join(slices.DeleteFunc(append([]string{c.Message}, foreign...), func(m string) bool { return m == "" }), "; ")
	}
	return c
}

// conflicting is the message of an Address's condition Conflicting; "" if it is
// not.
func conflicting(conflict, claimant string) string {
	switch {
	case conflict != "":
		return conflict + " answers for it, which is no node of this cluster: it is not announced"
	case claimant != "":
		return claimant + " claims it while it is announced, and is no node of this cluster"
	}
	return ""
}

// mostStatuses is how many Addresses' statuses are written before other work goes
// on, statusWriters how many at once.
const mostStatuses, statusWriters = 200, 8

// Findings writes what the nodes found into the Addresses' statuses, and tells
// whether there is more of it.
func (r *Writer) Findings(ctx context.Context, s *snapshot.Snapshot) (more bool, err error) {
	found := findings(s)
	due := slices.DeleteFunc(slices.Clone(s.Addresses), func(a *snapshot.Address) bool {
		status := wantAddress(a, found[a.Addr])
		return a.Deleting || status.ProbedAt.Time.Equal(a.ProbedAt) && status.Conflict == a.Conflict && messageOf(status) == a.Conflicting
	})
	errs := make([]error, min(len(due), mostStatuses))
	var group errgroup.Group
	group.SetLimit(statusWriters)
	for i := range errs {
		group.Go(func() error {
			errs[i] = r.addressStatus(ctx, due[i], wantAddress(due[i], found[due[i].Addr]))
			return nil
		})
	}
	_ = group.Wait()
	return len(due) > mostStatuses, errors.Join(errs...)
}

// wantAddress is the status that f gives a; what nobody found anew stays.
func wantAddress(a *snapshot.Address, f snapshot.Finding) v1alpha1.AddressStatus {
	probed, conflict := a.ProbedAt, a.Conflict
	if !f.ProbedAt.IsZero() {
		probed, conflict = f.ProbedAt, f.Conflict
	}
	out := v1alpha1.AddressStatus{ProbedAt: &metav1.Time{Time: probed}, Conflict: conflict}
	if message := conflicting(conflict, f.Claimant); message != "" {
		meta.SetStatusCondition(&out.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionConflicting, Status: metav1.ConditionTrue, Reason: string(announcer.AddressConflict), Message: message,
		})
	}
	return out
}

func messageOf(s v1alpha1.AddressStatus) string {
	if len(s.Conditions) == 0 {
		return ""
	}
	return s.Conditions[0].Message
}

func (r *Writer) addressStatus(ctx context.Context, a *snapshot.Address, status v1alpha1.AddressStatus) error {
	obj := &v1alpha1.Address{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AddressName(a.Addr), UID: types.UID(a.UID), ResourceVersion: a.ResourceVersion},
		Spec:       kube.FromAddress(*a), Status: status,
	}
	if status.ProbedAt.IsZero() {
		obj.Status.ProbedAt = nil
	}
	got, err := r.Clients.Addresses.UpdateStatus(ctx, obj, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("status of %s: %w", a.Addr, err)
	}
	r.Store.Written(got)
	return nil
}
