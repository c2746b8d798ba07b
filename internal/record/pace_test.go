package record_test

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/record"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/apitest"
)

// Somebody with a node's token says something else of a Service 100 times a second. Its
// status is written now and then, in the end with what was said last. What is not a node's
// word is written at once.
func TestAttackByConditionsThatFlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := apitest.New()
		w := &record.Writer{Clients: api.Clients, Store: kube.NewStore(api.Clients, func() {}), Log: slog.New(slog.DiscardHandler)}
		api.Store = w.Store
		obj, err := api.Clients.Kube.CoreV1().Services("default").Create(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "web"}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		w.Store.Written(obj)
		ref, written := snapshot.Ref{Namespace: "default", Name: "web"}, 0
		say := func(message string) *corev1.Service {
			want := w.Store.Service(ref).DeepCopy()
			record.SetProblem(want, snapshot.Condition{Status: "False", Reason: "NodePortClaimed", Message: message}, true)
			return want
		}
		const seconds = 90
		for i := range seconds * 100 {
			switch _, err := w.ServiceStatus(t.Context(), say(fmt.Sprint("the word ", i))); {
			case err == nil:
				written++
			case !errors.Is(err, record.ErrPaced):
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Logf("attack: another word of a node every 10 ms, for %d s: the status is written %d times", seconds, written)
		if written < 2 || written > 30 {
			t.Errorf("it is written %d times", written)
		}
		want := say("and an address")
		want.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
		if _, err := w.ServiceStatus(t.Context(), want); err != nil {
			t.Errorf("an address is not written: %v", err)
		}
		time.Sleep(time.Minute)
		if _, err := w.ServiceStatus(t.Context(), say("the last")); err != nil {
			t.Errorf("the last word is not written: %v", err)
		}
	})
}
