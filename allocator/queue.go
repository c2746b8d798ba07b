package allocator

import (
	"container/heap"
	"net/netip"
)

// queue holds the Services that may get what they ask for, and knows who might
// come back when something is released.
type queue struct {
	ready   ready
	asking  []*service // for anything but certain addresses
	waiting map[netip.Addr][]*service
}

// join adds svc, for now and for later. Services join in their order.
func (q *queue) join(svc *service) {
	q.put(svc)
	if len(svc.req.addrs) == 0 {
		q.asking = append(q.asking, svc)
	}
	for _, a := range svc.req.addrs {
		q.waiting[a] = append(q.waiting[a], svc)
	}
}

// next takes out the oldest; nil if there is none.
func (q *queue) next() *service {
	if len(q.ready) == 0 {
		return nil
	}
	svc := heap.Pop(&q.ready).(*service)
	svc.queued = false
	return svc
}

// requeueFor brings back who may now have what was refused before, because of the
// release of s.
func (q *queue) requeueFor(s *slot) {
	for _, svc := range q.waiting[s.addr] {
		q.put(svc)
	}
	for _, svc := range q.asking {
		if s.releaseHelps(svc) {
			q.put(svc)
		}
	}
}

func (q *queue) put(svc *service) {
	if !svc.queued {
		svc.queued = true
		heap.Push(&q.ready, svc)
	}
}

// ready is a heap of Services, the oldest on top.
type ready []*service

func (r ready) Len() int           { return len(r) }
func (r ready) Less(i, j int) bool { return compareServices(r[i], r[j]) < 0 }
func (r ready) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *ready) Push(c any)        { *r = append(*r, c.(*service)) }

func (r *ready) Pop() any {
	old := *r
	svc := old[len(old)-1]
	*r = old[:len(old)-1]
	return svc
}
