package allocator

import (
	"container/heap"
	"net/netip"
)

// queue holds the claims that may get what they ask for, and knows who might
// come back when something is released.
type queue struct {
	ready   ready
	asking  []*claim // for anything but certain addresses
	waiting map[netip.Addr][]*claim
}

// join adds c, for now and for later. Claims join in their order.
func (q *queue) join(c *claim) {
	q.put(c)
	if len(c.req.addrs) == 0 {
		q.asking = append(q.asking, c)
	}
	for _, a := range c.req.addrs {
		q.waiting[a] = append(q.waiting[a], c)
	}
}

// next takes out the oldest; nil if there is none.
func (q *queue) next() *claim {
	if len(q.ready) == 0 {
		return nil
	}
	c := heap.Pop(&q.ready).(*claim)
	c.queued = false
	return c
}

// stir brings back who may now have what was refused before, because of the
// release of s.
func (q *queue) stir(s *slot) {
	for _, c := range q.waiting[s.addr] {
		q.put(c)
	}
	for _, c := range q.asking {
		if s.stirs(c) {
			q.put(c)
		}
	}
}

func (q *queue) put(c *claim) {
	if !c.queued {
		c.queued = true
		heap.Push(&q.ready, c)
	}
}

// ready is a heap of claims, the oldest on top.
type ready []*claim

func (r ready) Len() int           { return len(r) }
func (r ready) Less(i, j int) bool { return compareClaims(r[i], r[j]) < 0 }
func (r ready) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *ready) Push(c any)        { *r = append(*r, c.(*claim)) }

func (r *ready) Pop() any {
	old := *r
	c := old[len(old)-1]
	*r = old[:len(old)-1]
	return c
}
