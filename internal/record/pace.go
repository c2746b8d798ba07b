package record

import (
	"errors"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// ErrPaced means that a status was not written: what nodes say of the Service has changed
// too often within a minute. A later pass writes what they say then.
var ErrPaced = errors.New("what nodes say of the Service changes all the time")

// mostTold is how often in a minute the status of a Service is written because nodes say
// something else. Somebody who has one node's token can have it say so of every Service.
const mostTold = 10

// pace counts the writes of the current minute.
type pace struct {
	mu    sync.Mutex
	since time.Time
	told  map[types.UID]int
}

// allows reports whether the status of a Service may be written once more at now.
func (p *pace) allows(uid types.UID, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.since) >= time.Minute {
		p.since, p.told = now, map[types.UID]int{}
	}
	p.told[uid]++
	return p.told[uid] <= mostTold
}

// onlyTold reports whether want differs from have in nothing but what nodes say.
func onlyTold(have, want *corev1.Service) bool {
	if have == nil || !equality.Semantic.DeepEqual(have.Status.LoadBalancer, want.Status.LoadBalancer) {
		return false
	}
	was, is := meta.FindStatusCondition(have.Status.Conditions, v1alpha1.ConditionAddressAssigned), meta.FindStatusCondition(want.Status.Conditions, v1alpha1.ConditionAddressAssigned)
	return equality.Semantic.DeepEqual(was, is)
}
