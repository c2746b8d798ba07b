package record

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// ServiceStatus writes the status of want and returns the Service as it is then; nil
// if it is gone. It returns ErrPaced if it does not write.
func (r *Writer) ServiceStatus(ctx context.Context, want *corev1.Service) (*corev1.Service, error) {
	have := r.Store.Service(snapshot.Ref{Namespace: want.Namespace, Name: want.Name})
	if onlyTold(have, want) && !r.pace.allows(want.UID, time.Now()) {
		return nil, ErrPaced
	}
	got, err := r.Clients.UpdateServiceStatus(ctx, want)
	return r.service(got, "write status", err)
}

// Finalizers makes finalizers those of svc. It fails if anybody has changed svc since
// it was read.
func (r *Writer) Finalizers(ctx context.Context, svc *corev1.Service, finalizers []string) error {
	if slices.Equal(svc.Finalizers, finalizers) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"finalizers": finalizers, "resourceVersion": svc.ResourceVersion, "uid": svc.UID,
	}})
	if err != nil {
		return fmt.Errorf("finalizers: %w", err)
	}
	got, err := r.Clients.Kube.CoreV1().Services(svc.Namespace).Patch(ctx, svc.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	_, err = r.service(got, "finalizers", err)
	return err
}

// service takes in what the API server answered to a write of a Service.
func (r *Writer) service(got *corev1.Service, what string, err error) (*corev1.Service, error) {
	if apierrors.IsNotFound(err) {
		return nil, nil // it is gone: nothing is left to write
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	r.Store.Written(got)
	return got, nil
}
