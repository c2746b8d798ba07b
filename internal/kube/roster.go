package kube

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/netip"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// The roster is what agents read of all Nodes. The leading controller keeps it in
// ConfigMaps of its own namespace, and writes it only when something in it changes. A
// kubelet writes its whole Node every five minutes, so in a large cluster the Nodes
// themselves change several times a second.
const (
	// RosterHead is the name of the ConfigMap by which the controller says that the
	// roster is whole.
	RosterHead = "fairlead-nodes"
	// RosterLabel is on all ConfigMaps of the roster.
	RosterLabel = "fairlead.io/roster"
	// RosterEvery is how often the controller renews the head.
	RosterEvery = 30 * time.Second
	// rosterParts is how many ConfigMaps the Nodes are divided among. The chart's roles
	// name each of them.
	rosterParts = 64

	rosterRenewed = "renewed" // in the head: when it was written
	rosterNodes   = "nodes"   // in the head: how many all parts have together
)

// RosterPart returns the name of part i of the roster.
func RosterPart(i int) string { return fmt.Sprintf("%s-%02d", RosterHead, i) }

// rosterNode is a Node in the roster.
type rosterNode struct {
	UID                string            `json:"uid,omitempty"`
	Labels             map[string]string `json:"labels,omitempty"`
	InternalIPs        []netip.Addr      `json:"internalIPs,omitempty"`
	ExternalIPs        []netip.Addr      `json:"externalIPs,omitempty"`
	PodCIDRs           []netip.Prefix    `json:"podCIDRs,omitempty"`
	Taints             []string          `json:"taints,omitempty"`
	Ready              bool              `json:"ready,omitempty"`
	Unheard            bool              `json:"unheard,omitempty"`
	NetworkUnavailable bool              `json:"networkUnavailable,omitempty"`
	Unschedulable      bool              `json:"unschedulable,omitempty"`
	ShuttingDown       bool              `json:"shuttingDown,omitempty"`
	Deleting           bool              `json:"deleting,omitempty"`
}

// RosterOf returns the data of the parts of the roster by their names. Parts without a
// Node are left out. Within a part the keys are the names of the Nodes.
func RosterOf(nodes []*snapshot.Node) (map[string]map[string]string, error) {
	out := map[string]map[string]string{}
	for _, n := range nodes {
		text, err := json.Marshal(rosterNode{
			UID: n.UID, Labels: n.Labels, InternalIPs: n.InternalIPs, ExternalIPs: n.ExternalIPs, PodCIDRs: n.PodCIDRs, Taints: n.Taints,
			Ready: n.Ready, Unheard: n.Unheard, NetworkUnavailable: n.NetworkUnavail, Unschedulable: n.Unschedulable, ShuttingDown: n.ShuttingDown, Deleting: n.Deleting,
		})
		if err != nil {
			return nil, fmt.Errorf("node %s in the roster: %w", n.Name, err)
		}
		h := fnv.New32a()
		_, _ = h.Write([]byte(n.Name))
		part := RosterPart(int(h.Sum32() % rosterParts))
		if out[part] == nil {
			out[part] = map[string]string{}
		}
		out[part][n.Name] = string(text)
	}
	return out, nil
}

// HeadOf returns the data of the head of a roster that has so many Nodes.
func HeadOf(nodes int, now time.Time) map[string]string {
	return map[string]string{rosterNodes: strconv.Itoa(nodes), rosterRenewed: now.UTC().Format(time.RFC3339Nano)}
}

// rosterPart is what is held of one ConfigMap of the roster.
type rosterPart struct {
	nodes []*snapshot.Node
	head  *rosterHead // nil unless it is the head
}

// rosterHead is what the head says. nodes is -1 if it cannot be read.
type rosterHead struct {
	renewed time.Time
	nodes   int
}

// toRosterPart reads one ConfigMap of the roster. A Node that cannot be read is left out:
// the roster is not whole then.
func toRosterPart(cm *corev1.ConfigMap) *rosterPart {
	if cm.Name == RosterHead {
		n, err := strconv.Atoi(cm.Data[rosterNodes])
		if err != nil {
			n = -1
		}
		renewed, _ := time.Parse(time.RFC3339Nano, cm.Data[rosterRenewed]) // the zero time is long ago
		return &rosterPart{head: &rosterHead{renewed: renewed, nodes: n}}
	}
	out := &rosterPart{}
	for name, text := range cm.Data {
		var n rosterNode
		if json.Unmarshal([]byte(text), &n) != nil {
			continue
		}
		out.nodes = append(out.nodes, &snapshot.Node{
			Name: name, UID: n.UID, Labels: n.Labels, Zone: n.Labels[corev1.LabelTopologyZone], InternalIPs: n.InternalIPs, ExternalIPs: n.ExternalIPs,
			PodCIDRs: n.PodCIDRs, Taints: n.Taints, Ready: n.Ready, Unheard: n.Unheard, NetworkUnavail: n.NetworkUnavailable, Unschedulable: n.Unschedulable, ShuttingDown: n.ShuttingDown, Deleting: n.Deleting,
		})
	}
	return out
}
