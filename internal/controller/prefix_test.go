package controller

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolsrecord "k8s.io/client-go/tools/record"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/apitest"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// slow takes a second to write the status of a pool.
type slow struct {
	kube.Objects[*v1alpha1.AddressPool, *v1alpha1.AddressPoolList]
}

func (s slow) UpdateStatus(ctx context.Context, p *v1alpha1.AddressPool, opt metav1.UpdateOptions) (*v1alpha1.AddressPool, error) {
	time.Sleep(time.Second)
	return s.Objects.UpdateStatus(ctx, p, opt)
}

// renumbering is a controller whose only node sees prefixes.
type renumbering struct {
	*Controller
	api      *apitest.API
	recorder *toolsrecord.FakeRecorder
	version  int
}

// sees has the node say that it sees a prefix, and the controller act.
func (r *renumbering) sees(t *testing.T, prefix string) {
	t.Helper()
	r.version++
	st := snapshot.NodeState{Prefixes: []snapshot.LinkPrefix{{Link: "eth0", Prefix: netip.MustParsePrefix(prefix)}}}
	r.Store.Written(&v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "n1", ResourceVersion: fmt.Sprint(r.version)}, Status: kube.FromNodeState(st)})
	r.act(t)
}

func (r *renumbering) act(t *testing.T) {
	t.Helper()
	if err := r.step(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// later has the pool's status say that all happened so much earlier, and the controller act.
func (r *renumbering) later(t *testing.T, by time.Duration) {
	t.Helper()
	p := r.api.Pools()[0].DeepCopy()
	for i := range p.Status.Prefixes {
		k := &p.Status.Prefixes[i]
		k.Since.Time = k.Since.Add(-by)
		if k.Until != nil {
			k.Until.Time = k.Until.Add(-by)
		}
	}
	r.api.PutPool(p)
	r.act(t)
}

// wants compares the addresses of the Service, and the prefixes of the pool by their state.
func (r *renumbering) wants(t *testing.T, addresses, prefixes string) {
	t.Helper()
	var known []string
	for _, k := range r.api.Pools()[0].Status.Prefixes {
		known = append(known, string(k.State)+" "+k.Prefix)
	}
	if got := strings.Join(known, ", "); got != prefixes {
		t.Errorf("the pool knows %s, want %s", got, prefixes)
	}
	if got := strings.Join(ips(r.api.Services()[0]), ", "); got != addresses {
		t.Errorf("the Service has %s, want %s", got, addresses)
	}
}

// events returns the Events of a reason so far.
func (r *renumbering) events(reason string) (out []string) {
	for {
		select {
		case e := <-r.recorder.Events:
			if strings.Contains(e, reason) {
				out = append(out, e)
			}
		default:
			return out
		}
	}
}

// TestPrefixChanges: what nodes see becomes the pool's status, from there the addresses of
// Services, and Events. The status is all that the controller remembers. The pool is
// written so slowly that a step waits for it only as it is patient.
func TestPrefixChanges(t *testing.T) { synctest.Test(t, prefixChanges) }

func prefixChanges(t *testing.T) {
	w := storytest.NewWorld()
	if err := w.Do("node n1 ips=198.51.100.1\npool home prefix=eth0/::10-::12\nservice z/a families=6"); err != nil {
		t.Fatal(err)
	}
	s, err := w.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	r := &renumbering{api: apitest.New(), recorder: toolsrecord.NewFakeRecorder(100)}
	r.api.Clients.Pools = slow{r.api.Clients.Pools}
	r.Controller = patient(r.api.Clients)
	r.Options, r.Recorder, r.api.Store = w.Options(), r.recorder, r.Store
	r.api.Start(t)
	r.api.Sync(s)

	r.sees(t, "2001:db8:1::/64")
	r.wants(t, "2001:db8:1::10", "Current 2001:db8:1::/64")
	r.sees(t, "2001:db8:2::/64")
	r.wants(t, "2001:db8:1::10", "Current 2001:db8:1::/64, Candidate 2001:db8:2::/64")
	r.later(t, time.Minute)
	r.wants(t, "2001:db8:2::10, 2001:db8:1::10", "Leaving 2001:db8:1::/64, Current 2001:db8:2::/64")
	if got := r.events("PrefixChanged"); len(got) != 2 || !strings.Contains(got[1], "2001:db8:2::/64 from now on, instead of 2001:db8:1::/64") {
		t.Errorf("Events %q", got)
	}
	r.later(t, 2*time.Hour)
	r.wants(t, "2001:db8:2::10", "Former 2001:db8:1::/64, Current 2001:db8:2::/64")
	if got := r.events("UpdatedLoadBalancer"); len(got) != 1 {
		t.Errorf("Events %q", got)
	}
	r.act(t)
	r.wants(t, "2001:db8:2::10", "Current 2001:db8:2::/64")
	if got := len(r.api.Records()); got != 1 {
		t.Errorf("%d records, want 1", got)
	}
}
