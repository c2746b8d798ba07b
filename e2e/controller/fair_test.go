package controller_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// fairness is how much later the Services of others may get their addresses
// because of one tenant's Service.
const fairness = 100 * time.Millisecond

// TestFairness: whatever one tenant does with its Service, the Services of others
// get their addresses at most 100 ms later than without it.
func TestFairness(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(*cluster)
	}{
		{"4097 ports", func(c *cluster) { c.service("worst", ports(4097)) }},
		{"denied", func(c *cluster) { c.webhook(deny); c.service("worst", label("test/webhook", "yes")) }},
		{"a webhook that hangs", func(c *cluster) { c.webhook(hang); c.service("worst", label("test/webhook", "yes")) }},
		{"a thousand changes a second", func(c *cluster) { c.service("worst"); c.restless("worst") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCluster(t)
			c.pool("lan", "198.51.100.0/24")
			r := c.start(options)
			r.settled()
			alone := c.latency("alone")
			tc.make(c)
			beside := c.latency("beside")
			t.Logf("median %s alone, %s beside it; nine of ten within %s and %s; all within %s and %s",
				share(alone, 50), share(beside, 50), share(alone, 90), share(beside, 90), slices.Max(alone), slices.Max(beside))
			if added := share(beside, 50) - share(alone, 50); added > fairness {
				t.Errorf("%s later in the median", added)
			}
			if added := share(beside, 90) - share(alone, 90); added > 3*fairness {
				t.Errorf("%s later for nine of ten", added) // as much as the machine itself delays one of ten
			}
		})
	}
}

// share returns the time within which so many percent of d lie.
func share(d []time.Duration, percent int) time.Duration {
	return slices.Sorted(slices.Values(d))[len(d)*percent/100]
}

// latency makes Services one after the other and returns how long each waited for
// its address.
func (c *cluster) latency(prefix string) (out []time.Duration) {
	c.Helper()
	for i := range 20 {
		name := fmt.Sprintf("%s-%d", prefix, i)
		w, err := c.Kube.CoreV1().Services("default").Watch(c.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		c.must(err)
		began := time.Now()
		c.service(name)
		for e := range w.ResultChan() {
			if s, ok := e.Object.(*corev1.Service); ok && len(s.Status.LoadBalancer.Ingress) > 0 {
				break
			}
			if time.Since(began) > time.Minute {
				c.Fatal("no address after a minute")
			}
		}
		out = append(out, time.Since(began))
		w.Stop()
	}
	return out
}

func ports(n int) change {
	return func(s *corev1.Service) {
		s.Spec.Ports = nil
		for i := range n {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprintf("p%d", i), Port: int32(i + 1)})
		}
	}
}

func label(key, value string) change {
	return func(s *corev1.Service) { s.Labels = map[string]string{key: value} }
}

func deny(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "no", http.StatusInternalServerError)
}

func hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that the client is gone
	<-r.Context().Done()
}

// webhook makes the API server ask h before every change of a labelled Service, and
// waits until it does.
func (c *cluster) webhook(h http.HandlerFunc) {
	c.Helper()
	asked := make(chan struct{})
	var once sync.Once
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(asked) })
		h(w, r)
	}))
	fail, none, wait := admissionv1.Fail, admissionv1.SideEffectClassNone, int32(2)
	_, err := c.Kube.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(c.Context(), &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "test"},
		Webhooks: []admissionv1.ValidatingWebhook{{
			Name: "test.example.com", FailurePolicy: &fail, SideEffects: &none, TimeoutSeconds: &wait, AdmissionReviewVersions: []string{"v1"},
			ObjectSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"test/webhook": "yes"}},
			ClientConfig: admissionv1.WebhookClientConfig{
				URL: &srv.URL, CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}),
			},
			Rules: []admissionv1.RuleWithOperations{{
				Operations: []admissionv1.OperationType{admissionv1.Update},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"services", "services/status"}},
			}},
		}},
	}, metav1.CreateOptions{})
	c.must(err)
	c.Cleanup(func() {
		c.must(c.Kube.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(context.Background(), "test", metav1.DeleteOptions{}))
		c.eventually("end of the webhook", func() error { return c.touch("worst") })
		srv.CloseClientConnections()
		srv.Close()
	})
	c.service("first", label("test/webhook", "yes"))
	c.eventually("the webhook", func() error {
		_ = c.touch("first")
		select {
		case <-asked:
			return nil
		default:
			return fmt.Errorf("nobody has asked it")
		}
	})
}

var touches int

// touch changes an annotation of a Service.
func (c *cluster) touch(name string) error {
	touches++
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{"test/touch":"%d"}}}`, touches)
	_, err := c.Kube.CoreV1().Services("default").Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// restless changes what a Service asks for, a thousand times a second or as often as
// the API server can, until the end of the test.
func (c *cluster) restless(name string) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			tick := time.NewTicker(4 * time.Millisecond)
			defer tick.Stop()
			for i := 0; ctx.Err() == nil; i++ {
				<-tick.C
				patch := fmt.Sprintf(`{"metadata":{"annotations":{"fairlead.io/addresses":"nonsense %d-%d"}}}`, w, i)
				_, _ = c.Kube.CoreV1().Services("default").Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
			}
		})
	}
	c.Cleanup(func() { cancel(); wg.Wait() })
}
