package apitest

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// locked is objects for many writers at once.
type locked[T object[T], L any] struct{ *objects[T, L] }

func (l *locked[T, L]) Get(ctx context.Context, name string, opt metav1.GetOptions) (T, error) {
	l.api.mu.Lock()
	defer l.api.mu.Unlock()
	return l.objects.Get(ctx, name, opt)
}

func (l *locked[T, L]) Create(ctx context.Context, o T, opt metav1.CreateOptions) (T, error) {
	l.api.mu.Lock()
	defer l.api.mu.Unlock()
	return l.objects.Create(ctx, o, opt)
}

func (l *locked[T, L]) Update(ctx context.Context, o T, opt metav1.UpdateOptions) (T, error) {
	l.api.mu.Lock()
	defer l.api.mu.Unlock()
	return l.objects.Update(ctx, o, opt)
}

func (l *locked[T, L]) UpdateStatus(ctx context.Context, o T, opt metav1.UpdateOptions) (T, error) {
	return l.Update(ctx, o, opt)
}

func (l *locked[T, L]) Delete(ctx context.Context, name string, opt metav1.DeleteOptions) error {
	l.api.mu.Lock()
	defer l.api.mu.Unlock()
	return l.objects.Delete(ctx, name, opt)
}
