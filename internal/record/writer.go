package record

import (
	"context"
	"fmt"
	"log/slog"

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
// it was read: the record is the lock.
func (r *Writer) Record(ctx context.Context, w Write) error {
	if err := r.goneAll(ctx, w.Losers); err != nil {
		return fmt.Errorf("record of %s: %w", w.Addr(), err)
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
	}
	if err != nil {
		return fmt.Errorf("record of %s: %w", w.Want.Addr, err)
	}
	r.Store.Written(got)
	r.Log.Info("address recorded", "address", w.Want.Addr, "holders", w.Want.Holders)
	return nil
}

// goneAll returns an error if one of losers exists, though the Store does not have
// it: each kind of object comes here at its own pace, and a record that another
// leader has just made may be here before its Service.
func (r *Writer) goneAll(ctx context.Context, losers []snapshot.Holder) error {
	for _, l := range losers {
		if obj := r.Store.Service(l.Ref); obj != nil && string(obj.UID) == l.UID {
			continue
		}
		obj, err := r.Clients.Kube.CoreV1().Services(l.Namespace).Get(ctx, l.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return fmt.Errorf("ask for its holder %s: %w", l.Ref, err)
		case string(obj.UID) == l.UID:
			return fmt.Errorf("its holder %s exists, but has not been seen here yet", l.Ref)
		}
	}
	return nil
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
