package cloud

import (
	"context"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/cloud-provider/api"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// waitWithin is how long waitForVersion waits.
const waitWithin = 5 * time.Second

// waitForVersion returns a Snapshot that is not older than svc. With gone it may also be of
// a cluster without svc. The service controller
// follows the API server by itself, so it may know a Service before the Store
// does. To put svc into the Store instead could bring a deleted Service back.
func (p *Provider) waitForVersion(ctx context.Context, svc *corev1.Service, gone bool) (*snapshot.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, waitWithin)
	defer cancel()
	for {
		changed := p.changed.next()
		if p.knows(svc, gone) {
			return p.store.Snapshot(), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, api.NewRetryError("this version of the Service has not been seen yet", retry)
		}
	}
}

// knows reports whether the Store has svc in this version or a newer one; with
// gone, also whether it has none or another of its name.
func (p *Provider) knows(svc *corev1.Service, gone bool) bool {
	obj := p.store.Service(refOf(svc))
	if obj == nil || obj.UID != svc.UID {
		return gone
	}
	have, err1 := strconv.ParseUint(obj.ResourceVersion, 10, 64)
	want, err2 := strconv.ParseUint(svc.ResourceVersion, 10, 64)
	return err1 != nil || err2 != nil || have >= want
}
