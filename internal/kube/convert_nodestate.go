package kube

import (
	"net/netip"
	"strings"
	"time"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/plain"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// What a NodeState lists and says at most, as the API type has it.
const (
	mostAddresses = 1000 // announced, refused or found
	mostProblems  = 256
	mostRoutes    = 256
	mostPods      = 10_000 // that are believed to run on one node
	longMessage   = 4096   // bytes
	shortMessage  = 1024   // bytes
)

// ToNodeState returns what n says. It passes over addresses that cannot be read.
func ToNodeState(n *v1alpha1.NodeState) *snapshot.NodeState {
	in := n.Status
	out := &snapshot.NodeState{
		Electable: snapshot.Electable{Node: n.Name, InSync: in.Engine.InSync, Draining: in.Draining, Links: each(in.Links, toLink), Protocol: announcer.Protocol, Director: toDirector(in.Director)},
		Version:   in.AgentVersion, ReportKey: in.ReportKey, Engine: toEngine(in.Engine), Conditions: toConditions(in.Conditions),
		Unlisted: max(0, int(in.AnnouncesCount)-len(in.Announces)),
		Silent:   each(in.Silent, func(m v1alpha1.SilentNode) snapshot.Silent { return snapshot.Silent(m) }),
		Peers:    each(in.Peers, toPeerState), Problems: each(in.Problems, toProblem), Prefixes: toLinkPrefixes(in.Prefixes), Leases: toNodeLeases(in.Leases),
	}
	for _, f := range in.Engine.Unforwarded {
		out.Unforwarded = append(out.Unforwarded, toFamily(f))
	}
	if in.RenewTime != nil {
		out.Renewed = in.RenewTime.Time
	}
	for _, cause := range in.DrainsFor {
		out.DrainsFor |= snapshot.DrainCause(string(cause))
	}
	for _, a := range in.Announces {
		if ip, ok := snapshot.ParseAddr(a.Address); ok {
			if a.Stays {
				out.Stays = append(out.Stays, ip)
			}
			out.Announces = append(out.Announces, snapshot.Announced{
				Addr: ip, Link: a.Link, MAC: a.MAC, Peers: int(a.Peers), Service: a.Service, Since: timeOf(a.Since), Leaving: a.Leaving, Stays: a.Stays,
				Gap: time.Duration(a.GapMilliseconds) * time.Millisecond,
			})
		}
	}
	for _, r := range in.Refused {
		if ip, ok := snapshot.ParseAddr(r.Address); ok {
			out.Refused = append(out.Refused, snapshot.Refused{Addr: ip, Refusal: snapshot.Refusal{Reason: snapshot.Reason(r.Reason), Message: r.Message}})
		}
	}
	for _, f := range in.Findings {
		if ip, ok := snapshot.ParseAddr(f.Address); ok {
			out.Findings = append(out.Findings, snapshot.Finding{Addr: ip, UID: string(f.UID), ProbedAt: timeOf(f.ProbedAt), Conflict: f.Conflict, Claimant: f.Claimant})
		}
	}
	return out
}

func toLink(l v1alpha1.NodeLink) snapshot.Link {
	return snapshot.Link{Name: l.Name, MAC: l.MAC, Prefixes: prefixes(l.Prefixes)}
}

func toDirector(d *v1alpha1.DirectorState) *snapshot.DirectorState {
	if d == nil {
		return nil
	}
	return &snapshot.DirectorState{Able: d.Able, Why: d.Message, Links: each(d.Links, func(l v1alpha1.DirectorLink) snapshot.DirectorLink {
		out := snapshot.DirectorLink{Name: l.Name, MAC: l.MAC}
		for _, text := range l.Addresses {
			if ip, ok := snapshot.ParseAddr(text); ok {
				out.Addrs = append(out.Addrs, ip)
			}
		}
		return out
	}), Reaches: d.Reaches}
}

func fromDirector(d *snapshot.DirectorState) *v1alpha1.DirectorState {
	if d == nil {
		return nil
	}
	return &v1alpha1.DirectorState{Able: d.Able, Message: plain.Cut(d.Why, snapshot.MaxDirectorWhy), Links: each(d.Links, func(l snapshot.DirectorLink) v1alpha1.DirectorLink {
		return v1alpha1.DirectorLink{Name: l.Name, MAC: l.MAC, Addresses: each(l.Addrs, netip.Addr.String)}
	}), Reaches: first(d.Reaches, snapshot.MaxDirectorReaches)}
}

func toPeerState(p v1alpha1.PeerState) snapshot.PeerState {
	return snapshot.PeerState{
		Name: p.Name, Address: p.Address, State: p.State, Since: timeOf(p.Since), LastError: p.LastError, Prefixes: int(p.Prefixes), BFD: p.BFD,
	}
}

func toProblem(p v1alpha1.ServiceProblem) snapshot.Problem {
	namespace, name, _ := strings.Cut(p.Service, "/")
	return snapshot.Problem{Service: snapshot.Ref{Namespace: namespace, Name: name}, Reason: snapshot.Reason(p.Reason), Message: p.Message}
}

func toEngine(e v1alpha1.EngineState) snapshot.Engine {
	return snapshot.Engine{
		Mode: e.Mode, Message: e.Message, Services: int(e.Services), Endpoints: int(e.Endpoints), LocalPods: toLocalPods(e.LocalPods),
		Accelerator: snapshot.Accelerator{Mode: e.Accelerator.Mode, Message: e.Accelerator.Message, LeftFrontends: int(e.Accelerator.LeftCount)},
	}
}

func toLocalPods(l *v1alpha1.LocalPods) *snapshot.LocalPods {
	if l == nil {
		return nil
	}
	out := &snapshot.LocalPods{Count: min(int(l.RoutesCount), mostPods), Links: l.Links}
	for _, text := range l.Routes {
		from, to, both := strings.Cut(text, "-")
		if !both {
			to = from
		}
		first, ok := snapshot.ParseAddr(from)
		last, too := snapshot.ParseAddr(to)
		if r := netipx.IPRangeFrom(first, last); ok && too && r.IsValid() {
			out.Routes = append(out.Routes, r)
		}
	}
	return out
}

// FromNodeState is the reverse of ToNodeState. Lists and messages that are too long
// for the API are cut; the counts are of all. It leaves out the conditions, whose
// times a snapshot.Condition does not have.
func FromNodeState(st snapshot.NodeState) v1alpha1.NodeStateStatus {
	out := v1alpha1.NodeStateStatus{
		AgentVersion: st.Version, ReportKey: st.ReportKey, Engine: fromEngine(st.Engine, st.InSync), Draining: st.Draining, Links: each(st.Links, fromLink),
		AnnouncesCount: count(len(st.Announces) + st.Unlisted), Announces: each(first(st.Announces, mostAddresses), fromAnnounced),
		Silent:       each(st.Silent, func(m snapshot.Silent) v1alpha1.SilentNode { return v1alpha1.SilentNode(m) }),
		RefusedCount: count(len(st.Refused)), Refused: each(first(st.Refused, mostAddresses), fromRefused),
		Findings:      each(first(st.Findings, mostAddresses), fromFinding),
		ProblemsCount: count(len(st.Problems)), Problems: each(first(st.Problems, mostProblems), fromProblem),
		Peers: each(st.Peers, fromPeerState), Director: fromDirector(st.Director), Prefixes: each(first(st.Prefixes, mostPrefixes), fromLinkPrefix),
		Leases: each(first(st.Leases, mostNodeLeases), fromNodeLease),
	}
	for _, name := range (st.DrainsFor &^ snapshot.DrainRemoval).Names() {
		out.DrainsFor = append(out.DrainsFor, v1alpha1.DrainCause(name))
	}
	for _, f := range st.Unforwarded {
		out.Engine.Unforwarded = append(out.Engine.Unforwarded, corev1.IPFamily(f.String()))
	}
	if !st.Renewed.IsZero() {
		out.RenewTime = &metav1.MicroTime{Time: st.Renewed}
	}
	return out
}

func fromLink(l snapshot.Link) v1alpha1.NodeLink {
	return v1alpha1.NodeLink{Name: l.Name, MAC: l.MAC, Prefixes: each(l.Prefixes, netip.Prefix.String)}
}

func fromAnnounced(a snapshot.Announced) v1alpha1.AnnouncedAddress {
	return v1alpha1.AnnouncedAddress{
		Address: a.Addr.String(), Link: a.Link, MAC: a.MAC, Peers: count(a.Peers), Service: a.Service, Since: toTime(a.Since), Leaving: a.Leaving, Stays: a.Stays,
		GapMilliseconds: count(int(a.Gap.Milliseconds())),
	}
}

func fromRefused(r snapshot.Refused) v1alpha1.RefusedAddress {
	return v1alpha1.RefusedAddress{Address: r.Addr.String(), Reason: string(r.Reason), Message: plain.Cut(r.Message, longMessage)}
}

func fromFinding(f snapshot.Finding) v1alpha1.AddressFinding {
	return v1alpha1.AddressFinding{Address: f.Addr.String(), UID: types.UID(f.UID), ProbedAt: toTime(f.ProbedAt), Conflict: f.Conflict, Claimant: f.Claimant}
}

func fromProblem(p snapshot.Problem) v1alpha1.ServiceProblem {
	return v1alpha1.ServiceProblem{Service: p.Service.String(), Reason: string(p.Reason), Message: plain.Cut(p.Message, shortMessage)}
}

func fromPeerState(p snapshot.PeerState) v1alpha1.PeerState {
	return v1alpha1.PeerState{
		Name: p.Name, Address: p.Address, State: p.State, Since: toTime(p.Since), LastError: plain.Cut(p.LastError, shortMessage), Prefixes: count(p.Prefixes), BFD: p.BFD,
	}
}

func fromLocalPods(l *snapshot.LocalPods) *v1alpha1.LocalPods {
	if l == nil {
		return nil
	}
	return &v1alpha1.LocalPods{RoutesCount: count(l.Count), Links: l.Links, Routes: each(first(l.Routes, mostRoutes), func(r netipx.IPRange) string {
		if r.From() == r.To() {
			return r.From().String()
		}
		return r.String()
	})}
}

func fromEngine(e snapshot.Engine, inSync bool) v1alpha1.EngineState {
	return v1alpha1.EngineState{
		Mode: e.Mode, InSync: inSync, Message: plain.Cut(e.Message, longMessage), Services: count(e.Services), Endpoints: count(e.Endpoints), LocalPods: fromLocalPods(e.LocalPods),
		Accelerator: v1alpha1.AcceleratorState{
			Mode: e.Accelerator.Mode, Message: plain.Cut(e.Accelerator.Message, longMessage), LeftCount: count(e.Accelerator.LeftFrontends),
		},
	}
}

// decisive returns the part of st that decisions read, which is all that a Snapshot
// holds. Every difference between two Snapshots wakes the controller: what changes with
// each renewal, each attempt of a session, each endpoint or each election of another
// node must not count.
func decisive(st *snapshot.NodeState) *snapshot.NodeState {
	out := *st
	out.Version, out.Renewed, out.Engine, out.Conditions = "", time.Time{}, snapshot.Engine{}, nil
	out.Silent, out.Refused, out.Peers, out.Director = nil, nil, nil, nil
	for _, m := range st.Silent {
		// Agents restart one after the other in every upgrade: that their nodes'
		// kernels answer decides nothing.
		if m.Verdict == announcer.NodeGone.String() {
			out.Silent = append(out.Silent, m)
		}
	}
	for _, r := range st.Refused {
		// In version 0.1 every node but the owner says so of every address.
		if r.Reason != announcer.NotOwner {
			out.Refused = append(out.Refused, r)
		}
	}
	for _, p := range st.Peers {
		kept := snapshot.PeerState{Name: p.Name, State: p.State}
		// The error of a session that may yet be established changes with every attempt.
		if p.State == snapshot.PeerRefused {
			kept.LastError = p.LastError
		}
		out.Peers = append(out.Peers, kept)
	}
	return &out
}

// each returns to(item) for every item; nil if items is empty, as a decoder leaves it.
func each[A, B any](items []A, to func(A) B) []B {
	var out []B
	for _, item := range items {
		out = append(out, to(item))
	}
	return out
}

// first returns the first most of list, or all of it.
func first[T any](list []T, most int) []T { return list[:min(len(list), most)] }

// count is n as the API type has it.
func count(n int) int32 { return int32(n) } //nolint:gosec // bounded by the objects of a cluster

// toTime is the reverse of timeOf.
func toTime(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return &metav1.Time{Time: t}
}
