package dhcp

import (
	"bytes"
	"crypto/sha256"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Key names one lease in the cluster.
type Key struct {
	Pool   string
	ID     string
	Family snapshot.Family
}

// Inputs are all that a node decides by. None of them is changed later.
type Inputs struct {
	Node     string
	Snapshot *snapshot.Snapshot
	View     announcer.View
	Links    []snapshot.Link // of this node
	Own      []netip.Addr    // addresses of this node
	Routers  []snapshot.Router
}

// Want is a lease that this node keeps.
type Want struct {
	Key
	Pool  *snapshot.Pool
	Start snapshot.PoolLease // as the pool has it
	Taken string             // MAC address of a foreign host that has Start.Addr; "" if no such host answered
}

// Plan says which leases this node keeps.
type Plan struct {
	Mine []Want // by pool, then Service
	// Wanted has every lease that some node should keep. A node releases a lease that is
	// not wanted, and leaves one that another node keeps now.
	Wanted map[Key]bool
	// Recorded are the addresses that Services hold, or held a moment ago, by a lease: none
	// of them is released. Nodes may still answer for it.
	Recorded map[netip.Addr]bool
}

// Decide elects a node for each lease: one of those that are well, have the pool's link
// and are selected. All nodes elect the same, without a message, as they do for the
// addresses that they announce.
func Decide(in Inputs) Plan {
	p := Plan{Wanted: map[Key]bool{}, Recorded: map[netip.Addr]bool{}}
	for _, a := range in.Snapshot.Addresses {
		if a.Lease != "" {
			p.Recorded[a.Addr] = true
		}
	}
	for _, pool := range in.Snapshot.Pools {
		if pool.FromDHCP == nil || len(pool.Bad) > 0 || len(pool.Leases) == 0 {
			continue
		}
		nodes := candidates(in, pool.FromDHCP)
		for _, l := range pool.Leases {
			key := Key{pool.Name, l.ID, l.Family}
			p.Wanted[key] = true
			if elected(nodes, key) == in.Node {
				p.Mine = append(p.Mine, Want{Key: key, Pool: pool, Start: l, Taken: taken(in.Snapshot, l.Addr)})
			}
		}
	}
	return p
}

func candidates(in Inputs, from *snapshot.FromDHCP) (out []string) {
	for _, m := range in.View.Members {
		n := in.Snapshot.Node(m.Node)
		if !m.Candidate || m.Report == nil || n == nil || n.Deleting || !from.Nodes.Matches(n.Labels) {
			continue
		}
		if slices.ContainsFunc(m.Report.Links, func(l snapshot.Link) bool { return l.Name == from.Interface }) {
			out = append(out, m.Node)
		}
	}
	return out
}

// elected returns the node with the highest hash of both, "" if no node can be elected. A node that
// comes or goes moves its own leases alone.
func elected(nodes []string, key Key) (best string) {
	var most []byte
	for _, n := range nodes {
		sum := sha256.Sum256([]byte(key.Pool + "\n" + key.ID + "\n" + key.Family.String() + "\n" + n))
		if bytes.Compare(sum[:], most) > 0 {
			best, most = n, sum[:]
		}
	}
	return best
}

// taken returns the host with which the announcers found the address in conflict, before
// any of them announced it.
func taken(s *snapshot.Snapshot, addr netip.Addr) string {
	for _, a := range s.Addresses {
		if a.Addr == addr && addr.IsValid() && !a.Deleting {
			return a.Conflict
		}
	}
	return ""
}
