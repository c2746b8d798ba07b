package size

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/fairlead/fairlead/e2e/apiserver"
	"github.com/fairlead/fairlead/internal/kube"
)

// txnOps is how many keys one transaction of etcd writes at most (--max-txn-ops).
const txnOps = 128

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
	var found struct{ Kvs []struct{ Value []byte } }
	if err := ask(ctx, server.Etcd+"/v3/kv/range", map[string]any{"key": key(from)}, &found); err != nil {
		return err
	}
	if len(found.Kvs) != 1 {
		return fmt.Errorf("etcd has no key %s", key(from))
	}
	obj, _, err := codec.Decode(found.Kvs[0].Value, nil, &corev1.Service{})
	if err != nil {
		return err
	}
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return fmt.Errorf("%T is not a Service", obj)
	}
	type op = map[string]any
	var ops []op
	for i := from + 1; i < to; i++ {
		like := service(i, false)
		svc.Name, svc.Labels, svc.Spec.Selector, svc.UID = like.Name, like.Labels, like.Spec.Selector, types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012d", i))
		var value bytes.Buffer
		if err := codec.Encode(svc, &value); err != nil {
			return err
		}
		ops = append(ops, op{"requestPut": op{"key": key(i), "value": value.Bytes()}})
		if len(ops) == txnOps || i == to-1 {
			if err := ask(ctx, server.Etcd+"/v3/kv/txn", op{"success": ops}, nil); err != nil {
				return err
			}
			ops = nil
		}
	}
	return nil
}

func key(i int) []byte { return []byte("/registry/services/specs/default/" + serviceName(i)) }

// ask posts a question to etcd's gateway, which has base64 for bytes as encoding/json
// does, and decodes the answer into out, unless that is nil.
func ask(ctx context.Context, url string, question, out any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("etcd: %s", resp.Status)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}
