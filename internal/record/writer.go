package record

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Writer writes to the API, and tells the Store what came of it, so that the
// next Snapshot does not lag behind.
type Writer struct {
	Clients *kube.Clients
	Store   *kube.Store
	Log     *slog.Logger

	pace pace
}

// Record makes one Address record true. It fails if anybody has changed it since
// it was read: the record is the lock. It also fails if one of w.Losers has changed since it
// was seen here.
func (r *Writer) Record(ctx context.Context, w Write) error {
	for _, l := range w.Losers {
		if err := r.asSeen(ctx, l); err != nil {
			return fmt.Errorf("record of %s: its holder %s: %w", w.Addr(), l.Ref, err)
		}
	}
	name := v1alpha1.AddressName(w.Addr())
	if w.Want == nil {
		return r.delete(ctx, name, w.Have)
	}
	obj := &v1alpha1.Address{ObjectMeta: metav1.ObjectMeta{Name: name}}
	obj.Spec = kube.FromAddress(snapshot.Address{
		Addr: w.Want.Addr, Pool: w.Want.Pool, Lease: w.Want.Lease, Node: w.Want.Node, ShareKey: w.Want.ShareKey, ShareGroup: w.Want.ShareGroup, Holders: w.Want.Holders, Freed: w.Want.Freed,
	})
	var got *v1alpha1.Address
	var err error
	if w.Have == nil {
		got, err = r.Clients.Addresses.Create(ctx, obj, metav1.CreateOptions{})
	} else {
		obj.UID, obj.ResourceVersion = types.UID(w.Have.UID), w.Have.ResourceVersion
		got, err = r.Clients.Addresses.Update(ctx, obj, metav1.UpdateOptions{})
		r.forget(w.Have, err)
	}
	if err != nil {
		return fmt.Errorf("record of %s: %w", w.Want.Addr, err)
	}
	r.Store.Written(got)
	r.Log.Info("address recorded", "address", w.Want.Addr, "holders", w.Want.Holders)
	return nil
}

// errSeen means that a decision was made about what is not so any more.
var errSeen = errors.New("what has been seen of it here is not what the API server has")

// asSeen returns a conflict if the Service of l is there and is not as the Store has it. Each
// kind of object comes here at its own pace: another leader may have given the Service as it
// is now an address, whose record is here already.
func (r *Writer) asSeen(ctx context.Context, l snapshot.Holder) error {
	seen := ""
	if obj := r.Store.Service(l.Ref); obj != nil && string(obj.UID) == l.UID {
		seen = obj.ResourceVersion
	}
	obj, err := r.Clients.Kube.CoreV1().Services(l.Namespace).Get(ctx, l.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("read it: %w", err)
	case string(obj.UID) == l.UID && obj.ResourceVersion != seen:
		return apierrors.NewConflict(corev1.Resource("services"), l.Name, errSeen)
	}
	return nil
}

// Holds returns a conflict if svc, whose status does not name addr yet, does not hold it by the
// record that the API server has. It is for a record that is not written: the one of s may be
// old, and another leader may have given the address to somebody else.
func (r *Writer) Holds(ctx context.Context, s *snapshot.Snapshot, svc *corev1.Service, addr netip.Addr) error {
	a := cmp.Or(s.Address(addr), s.NodeAddress(addr))
	if a == nil || Names(svc, addr) {
		return nil
	}
	name := v1alpha1.AddressName(addr)
	got, err := r.Clients.Addresses.Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		r.forget(a, err)
	case err != nil:
		return fmt.Errorf("read the record of %s: %w", addr, err)
	default:
		r.Store.Written(got)
		if slices.ContainsFunc(got.Spec.Holders, func(h v1alpha1.AddressHolder) bool { return h.UID == svc.UID }) {
			return nil
		}
	}
	return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("addresses").GroupResource(), name, errSeen)
}

// forget takes the record a out of the Store if err says that it is gone. No informer does that
// if it lost its watch before it had seen the record, which a write of ours brought.
func (r *Writer) forget(a *snapshot.Address, err error) {
	if apierrors.IsNotFound(err) {
		r.Store.Removed(&v1alpha1.Address{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AddressName(a.Addr), UID: types.UID(a.UID)}})
	}
}

func (r *Writer) delete(ctx context.Context, name string, have *snapshot.Address) error {
	uid := types.UID(have.UID)
	err := r.Clients.Addresses.Delete(ctx, name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &have.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("free %s: %w", have.Addr, err)
	}
	r.Store.Removed(&v1alpha1.Address{ObjectMeta: metav1.ObjectMeta{Name: name, UID: uid}})
	r.Log.Info("address freed", "address", have.Addr)
	return nil
}
