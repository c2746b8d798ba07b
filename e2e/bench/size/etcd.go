package size

import (
	"bytes"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/fairlead/fairlead/e2e/apiserver"
	"github.com/fairlead/fairlead/internal/kube"
)

// multiply makes the Services from to to-1 in etcd, like the Service from, which it makes
// by the API server. That one takes milliseconds for each.
func multiply(ctx context.Context, server *apiserver.Server, c *kube.Clients, from, to int) error {
	if from >= to {
		return nil
	}
	if _, err := c.Kube.CoreV1().Services("default").Create(ctx, service(from, false), metav1.CreateOptions{}); err != nil {
		return err
	}
	codec := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
	first, err := server.Dig(ctx, key(from))
	if err != nil {
		return err
	}
	obj, _, err := codec.Decode(first, nil, &corev1.Service{})
	if err != nil {
		return err
	}
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return fmt.Errorf("%T is not a Service", obj)
	}
	var like []apiserver.Object
	for i := from + 1; i < to; i++ {
		want := service(i, false)
		svc.Name, svc.Labels, svc.Spec.Selector, svc.UID = want.Name, want.Labels, want.Spec.Selector, types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012d", i))
		var value bytes.Buffer
		if err := codec.Encode(svc, &value); err != nil {
			return err
		}
		like = append(like, apiserver.Object{Key: key(i), Value: value.Bytes()})
	}
	return server.Plant(ctx, like)
}

func key(i int) string { return "/registry/services/specs/default/" + serviceName(i) }
