package director

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// cluster is a simulated one, in which pods come and go while connections are opened.
type cluster struct {
	rand  *rand.Rand
	nodes int
	pods  map[int]int // the node of each pod that lives
	last  int         // the latest pod
	now   view
	was   view // one update behind
	conns []connection
}

// view is what a node decides by.
type view struct {
	table  *Table
	memory *Memory
	chains []uint16
}

type connection struct {
	hash uint64
	pod  int
}

const simulatedSeed Seed = 0x5eed

func newCluster(seed uint64, nodes, pods int) *cluster {
	c := &cluster{rand: rand.New(rand.NewPCG(seed, 0)), nodes: nodes, pods: map[int]int{}}
	c.start(pods)
	c.update()
	return c
}

func (c *cluster) start(pods int) {
	for range pods {
		c.last++
		c.pods[c.last] = c.rand.IntN(c.nodes)
	}
}

func (c *cluster) members() []Member {
	members := make([]Member, c.nodes)
	for i := range members {
		members[i].Name = fmt.Sprintf("node-%02d", i)
	}
	for _, node := range c.pods {
		members[node].Weight++
	}
	return members
}

func (c *cluster) update() {
	table := New(simulatedSeed, c.members())
	memory := c.now.memory.Next(c.now.table, table)
	c.was, c.now = c.now, view{table, memory, table.Chains(memory)}
}

// scale starts or ends up to a third of the pods, never the last one.
func (c *cluster) scale() {
	n := 1 + c.rand.IntN(max(len(c.pods)/3, 1))
	if c.rand.IntN(2) == 0 && len(c.pods) > n {
		for i := range c.last + 1 {
			if _, ok := c.pods[i]; ok && n > 0 && c.rand.IntN(2) == 0 {
				delete(c.pods, i)
				n--
			}
		}
	} else {
		c.start(n)
	}
	c.update()
}

// open opens n connections to pods of the slots' primaries.
func (c *cluster) open(n int) {
	of := make([][]int, c.nodes)
	for pod := range c.last + 1 {
		if node, ok := c.pods[pod]; ok {
			of[node] = append(of[node], pod)
		}
	}
	for range n {
		hash := c.rand.Uint64()
		pods := of[c.now.table.Primary[c.now.table.Slot(hash)]]
		c.conns = append(c.conns, connection{hash, pods[c.rand.IntN(len(pods))]})
	}
}

// found counts the hops of a packet that reaches a node first, up to the one that has its
// connection.
func (c *cluster) found(conn connection, views []view, rings *Rings, first int) (hops int, ok bool) {
	has := c.pods[conn.pod]
	at := Step{Hash: conn.hash, Me: first, Sender: -1}
	v := views[first]
	if p := int(v.table.Primary[v.table.Slot(conn.hash)]); p != first {
		at = Step{Hash: conn.hash, Me: p, Sender: first, Hop: 1}
	}
	for at.Me != has {
		v := views[at.Me]
		next, ok := v.table.Walk(v.chains, rings, at)
		if !ok {
			return at.Hop, false
		}
		at = Step{Hash: conn.hash, Me: next, Sender: at.Me, Hop: at.Hop + 1}
	}
	return at.Hop, true
}

// Connections outlive the loss of their VIP's owner after forty changes of the
// endpoints, although half of the nodes know the change before the last, and one has
// just started.
func TestWalkFindsConnections(t *testing.T) {
	for _, c := range []struct {
		nodes, pods int
		perMille    float64 // connections that may be lost
	}{{3, 6, 0}, {6, 4, 0}, {6, 12, 0}, {20, 10, 5}, {20, 40, 5}} {
		t.Run(fmt.Sprintf("%d nodes, %d pods", c.nodes, c.pods), func(t *testing.T) {
			lost, living, hops := 0, 0, 0
			for seed := range uint64(2) {
				s := newCluster(seed, c.nodes, c.pods)
				for range 40 {
					s.open(500)
					s.scale()
				}
				views := make([]view, c.nodes)
				for i := range views {
					views[i] = s.now
					if i%2 == 1 {
						views[i] = s.was
					}
				}
				forgot := s.rand.IntN(c.nodes)
				views[forgot] = view{s.now.table, nil, s.now.table.Chains(nil)}
				rings := NewRings(simulatedSeed, s.now.table.Members)
				for _, conn := range s.conns {
					if _, ok := s.pods[conn.pod]; !ok {
						continue
					}
					living++
					n, ok := s.found(conn, views, rings, s.rand.IntN(c.nodes))
					hops += n
					if !ok {
						lost++
					}
				}
			}
			t.Logf("%d of %d lost, %.2f hops", lost, living, float64(hops)/float64(living))
			if float64(lost) > c.perMille/1000*float64(living) {
				t.Errorf("more than %v per mille lost", c.perMille)
			}
		})
	}
}
