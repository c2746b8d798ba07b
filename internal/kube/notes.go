package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/allocator"
)

// mostNotes is how many bytes of annotations of a Service are held. Kubernetes allows
// 256 KiB, and any number of Services. Of a Service with more, those are held that
// fairlead reads.
const mostNotes = 8 << 10

// others is the key of an annotation that stands for those that are not held. No API
// server takes it, so nobody writes such a Service back by mistake.
const others = "others are not held"

// withinNotes returns o, or a copy of it with the annotations that fairlead reads.
func withinNotes(o *corev1.Service) *corev1.Service {
	total := 0
	for key, value := range o.Annotations {
		total += len(key) + len(value)
	}
	if total <= mostNotes {
		return o
	}
	out := *o
	out.Annotations = map[string]string{others: ""}
	for _, key := range allocator.Annotations() {
		if value, ok := o.Annotations[key]; ok {
			// One that is too long is still too long when it is cut.
			out.Annotations[key] = strings.Clone(value[:min(len(value), allocator.LongestAnnotation+1)])
		}
	}
	return &out
}

var errChanged = errors.New("it has changed")

// UpdateServiceStatus writes the status of want, which is a Service of a Store with
// another status. It fails if anybody has changed the Service since.
func (c *Clients) UpdateServiceStatus(ctx context.Context, want *corev1.Service) (*corev1.Service, error) {
	services := c.Kube.CoreV1().Services(want.Namespace)
	if _, trimmed := want.Annotations[others]; trimmed {
		whole, err := services.Get(ctx, want.Name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("read what is not kept of it: %w", err)
		}
		if whole.ResourceVersion != want.ResourceVersion || whole.UID != want.UID {
			return nil, apierrors.NewConflict(corev1.Resource("services"), want.Name, errChanged)
		}
		whole.Status = want.Status
		want = whole
	}
	return services.UpdateStatus(ctx, want, metav1.UpdateOptions{})
}
