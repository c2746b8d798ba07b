package nodestate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// checkEvery is how often an agent looks whether its NodeState still is as it was
// written, and up to half as much longer. A NodeState goes with its Node, which may come
// back; people delete one; and an etcd that is restored from a backup has an old one.
const checkEvery = 2 * time.Minute

// Client has the calls of the API that a Writer makes.
type Client interface {
	Get(context.Context, string, metav1.GetOptions) (*v1alpha1.NodeState, error)
	Create(context.Context, *v1alpha1.NodeState, metav1.CreateOptions) (*v1alpha1.NodeState, error)
	UpdateStatus(context.Context, *v1alpha1.NodeState, metav1.UpdateOptions) (*v1alpha1.NodeState, error)
}

// Writer writes the NodeState of one node. It is not safe for concurrent use.
type Writer struct {
	Client Client
	Node   string
	// Owner, if given, returns the object with which a new NodeState is deleted, nil if
	// that is not known.
	Owner func(context.Context) *metav1.OwnerReference

	when      when
	announces []snapshot.Announced // as they were written last
	dated     dated
	listed    listed
	obj       *v1alpha1.NodeState // as the API server returned it last; nil: not known
	check     time.Time           // when to look whether it still is so
}

// Written returns what the NodeState says since the last write.
func (w *Writer) Written() v1alpha1.NodeStateStatus {
	if w.when.written == nil {
		return v1alpha1.NodeStateStatus{}
	}
	return *w.when.written
}

// Write writes st with its conditions if that is due, and returns when to call it again
// at the latest. speakers are the nodes whose agents speak, this one included.
func (w *Writer) Write(ctx context.Context, st snapshot.NodeState, conditions []metav1.Condition, speakers []string) (again time.Time, err error) {
	return w.writeAt(ctx, st, conditions, speakers, time.Now())
}

func (w *Writer) writeAt(ctx context.Context, st snapshot.NodeState, conditions []metav1.Condition, speakers []string, now time.Time) (again time.Time, err error) {
	given := st.Announces
	st.Announces = w.since(given)
	if at := w.when.next(w.status(st, conditions), announcer.Witness(w.Node, speakers), len(speakers), now); at.After(now) {
		same, err := w.same(ctx, now)
		if same || err != nil {
			return earlier(at, w.check), err
		}
	}
	if err := w.write(ctx, st, conditions, now); err != nil {
		w.obj = nil // another one may have written or deleted it
		return time.Time{}, fmt.Errorf("node state: %w", err)
	}
	w.dated = dated{given, w.announces, w.announces}
	return earlier(w.when.renew, w.check), nil
}

// same reports whether the object still is as it was written, as far as it is time to
// look. If it is not, or if that is not known, the next write looks for the object first.
func (w *Writer) same(ctx context.Context, now time.Time) (bool, error) {
	if now.Before(w.check) {
		return true, nil
	}
	got, err := w.Client.Get(ctx, w.Node, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("look at the node state: %w", err)
	}
	w.check = now.Add(checkEvery + rand.N(checkEvery/2))
	if err == nil && w.obj != nil && got.UID == w.obj.UID && got.ResourceVersion == w.obj.ResourceVersion {
		return true, nil
	}
	w.obj = nil
	return false, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (w *Writer) write(ctx context.Context, st snapshot.NodeState, conditions []metav1.Condition, now time.Time) error {
	if err := w.find(ctx); err != nil {
		return err
	}
	st.Announces = slices.Clone(st.Announces)
	// After a restart the last agent's word counts.
	announcedSince(st.Announces, kube.ToNodeState(w.obj).Announces)
	for i := range st.Announces {
		if v := &st.Announces[i]; v.Since.IsZero() {
			v.Since = now.Truncate(time.Second) // as the API server keeps it
		}
	}
	said := w.status(st, conditions)
	obj := w.obj.DeepCopy()
	obj.Status = said
	obj.Status.RenewTime = &metav1.MicroTime{Time: now}
	got, err := w.Client.UpdateStatus(ctx, obj, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	got.ManagedFields = nil // nothing here reads them, and a write without them leaves them as they are
	w.obj, w.announces, w.check = got, st.Announces, now.Add(checkEvery+rand.N(checkEvery/2))
	w.when.wrote(said, now)
	return nil
}

// find sets w.obj to the NodeState in the API. It creates one if the API has no such object.
func (w *Writer) find(ctx context.Context) (err error) {
	if w.obj != nil {
		return nil
	}
	w.obj, err = w.Client.Get(ctx, w.Node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		fresh := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: w.Node}}
		if w.Owner != nil {
			if owner := w.Owner(ctx); owner != nil {
				fresh.OwnerReferences = []metav1.OwnerReference{*owner}
			}
		}
		w.obj, err = w.Client.Create(ctx, fresh, metav1.CreateOptions{})
	}
	if err != nil {
		w.obj = nil
	}
	return err
}

// listed is what is announced as the API has it, and what that was made of. A node
// may announce a thousand addresses, and most changes concern none.
type listed struct {
	announces []snapshot.Announced
	api       []v1alpha1.AnnouncedAddress
}

// status returns st as the API has it. It shares the list of addresses with the last one
// if that is made of the same.
func (w *Writer) status(st snapshot.NodeState, conditions []metav1.Condition) v1alpha1.NodeStateStatus {
	known := diff.Same(w.listed.announces, st.Announces)
	if known {
		st.Unlisted, st.Announces = st.Unlisted+len(st.Announces), nil
	}
	out := kube.FromNodeState(st)
	if known {
		out.Announces = w.listed.api
	} else {
		w.listed = listed{st.Announces, out.Announces}
	}
	out.Conditions = conditions
	return out
}

// dated is what is announced, with when each address was first, and what that was made of.
type dated struct {
	given, earlier []snapshot.Announced
	out            []snapshot.Announced
}

// since returns what is announced now, with the times at which each address was first
// announced as far as the last write says them.
func (w *Writer) since(now []snapshot.Announced) []snapshot.Announced {
	if !diff.Same(w.dated.given, now) || !diff.Same(w.dated.earlier, w.announces) {
		w.dated = dated{now, w.announces, slices.Clone(now)}
		announcedSince(w.dated.out, w.announces)
	}
	return w.dated.out
}

// announcedSince takes over from earlier since when each address is announced,
// where now does not know it.
func announcedSince(now, earlier []snapshot.Announced) {
	type addrOnLink struct {
		addr netip.Addr
		link string
	}
	since := make(map[addrOnLink]time.Time, len(earlier))
	for _, v := range earlier {
		since[addrOnLink{v.Addr, v.Link}] = v.Since
	}
	for i := range now {
		if v := &now[i]; v.Since.IsZero() {
			v.Since = since[addrOnLink{v.Addr, v.Link}]
		}
	}
}
