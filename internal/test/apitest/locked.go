package apitest

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// locked is objects for many writers at once.
type locked[T object[T], L any] struct {
	*objects[T, L]
	fault Fault
}

func lock[T object[T], L any](o *objects[T, L], fault Fault) *locked[T, L] {
	return &locked[T, L]{o, fault}
}

// write makes one write, unless the fault says that it fails.
func (l *locked[T, L]) write(do func() (T, error)) (T, error) {
	before, after := l.fault()
	if before != nil {
		var none T
		return none, before
	}
	l.api.mu.Lock()
	defer l.api.mu.Unlock()
	got, err := do()
	if err == nil {
		err = after
	}
	return got, err
}

func (l *locked[T, L]) Get(ctx context.Context, name string, opt metav1.GetOptions) (T, error) {
	l.api.mu.Lock()
	defer l.api.mu.Unlock()
	return l.objects.Get(ctx, name, opt)
}

func (l *locked[T, L]) Create(ctx context.Context, o T, opt metav1.CreateOptions) (T, error) {
	return l.write(func() (T, error) { return l.objects.Create(ctx, o, opt) })
}

func (l *locked[T, L]) Update(ctx context.Context, o T, opt metav1.UpdateOptions) (T, error) {
	return l.write(func() (T, error) { return l.objects.Update(ctx, o, opt) })
}

func (l *locked[T, L]) UpdateStatus(ctx context.Context, o T, opt metav1.UpdateOptions) (T, error) {
	return l.Update(ctx, o, opt)
}

func (l *locked[T, L]) Delete(ctx context.Context, name string, opt metav1.DeleteOptions) error {
	_, err := l.write(func() (none T, err error) { return none, l.objects.Delete(ctx, name, opt) })
	return err
}
