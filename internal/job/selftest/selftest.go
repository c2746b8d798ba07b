// Package selftest makes a Service of type LoadBalancer that its own process
// answers for, and reaches it by the address that it was given: what "helm test"
// runs in the cluster.
package selftest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// Options say what Run does.
type Options struct {
	Kube      kubernetes.Interface
	Namespace string
	Service   string            // made by Run, and deleted at its end
	Selector  map[string]string // of the pod that Run is in, and of no other
	Class     string            // "": none
	Word      string            // that the pod answers, and no other
	Port      uint16            // of the Service
	Timeout   time.Duration     // for each step
	Out       io.Writer         // gets a line a step
	// Why tells why the Service is not reached; nil if nobody can.
	Why func(context.Context)
}

// every is how often a step that waits looks again.
const every = 200 * time.Millisecond

// Run makes the Service, reaches it and deletes it. An error is the step that
// failed.
func Run(ctx context.Context, opt Options) (err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, opt.Word)
	})}
	go func() { _ = server.Serve(l) }()
	defer func() { _ = server.Close() }()

	if err := opt.create(ctx, l.Addr().(*net.TCPAddr).Port); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opt.remove(context.WithoutCancel(ctx))) }()
	if err := opt.reach(ctx); err != nil {
		if opt.Why != nil {
			opt.Why(ctx)
		}
		return err
	}
	return nil
}

// reach waits for an address, for somebody who announces it, and for an answer.
func (o *Options) reach(ctx context.Context) error {
	var addr string
	if err := o.until(ctx, "it to get an address", func(ctx context.Context) error {
		svc, err := o.get(ctx)
		if err != nil {
			return err
		}
		if in := svc.Status.LoadBalancer.Ingress; len(in) > 0 && in[0].IP != "" {
			addr = in[0].IP
			return nil
		}
		return conditionError(svc, v1alpha1.ConditionAddressAssigned)
	}); err != nil {
		return err
	}
	o.say("it has the address %s", addr)
	var by string
	if err := o.until(ctx, addr+" to be announced", func(ctx context.Context) error {
		svc, err := o.get(ctx)
		if err != nil {
			return err
		}
		c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAnnounced)
		if c != nil && c.Status == metav1.ConditionTrue {
			by = c.Message
			return nil
		}
		return conditionError(svc, v1alpha1.ConditionAnnounced)
	}); err != nil {
		return err
	}
	o.say("it is announced: %s", by)
	url := "http://" + net.JoinHostPort(addr, strconv.Itoa(int(o.Port))) + "/"
	if err := o.until(ctx, "an answer from "+url, func(ctx context.Context) error { return o.ask(ctx, url) }); err != nil {
		return err
	}
	o.say("%s answers", url)
	return nil
}

func conditionError(svc *corev1.Service, kind string) error {
	if c := meta.FindStatusCondition(svc.Status.Conditions, kind); c != nil {
		return fmt.Errorf("condition %s: %s: %s", kind, c.Reason, c.Message)
	}
	return fmt.Errorf("no condition %s yet: does the controller run?", kind)
}

func (o *Options) ask(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	req.Close = true // a connection each: it is the way there that is tried
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1024))
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(string(body)); got != o.Word {
		return fmt.Errorf("somebody else answers: %q", got)
	}
	return nil
}

func (o *Options) get(ctx context.Context) (*corev1.Service, error) {
	return o.Kube.CoreV1().Services(o.Namespace).Get(ctx, o.Service, metav1.GetOptions{})
}

func (o *Options) say(format string, args ...any) { fmt.Fprintf(o.Out, format+"\n", args...) }

// create makes the Service, in place of one that an earlier run left.
func (o *Options) create(ctx context.Context, port int) error {
	if err := o.remove(ctx); err != nil {
		return err
	}
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Service},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Selector: o.Selector,
			Ports: []corev1.ServicePort{{Name: "http", Port: int32(o.Port), TargetPort: intstr.FromInt(port)}},
		},
	}
	if o.Class != "" {
		svc.Spec.LoadBalancerClass = &o.Class
	}
	if _, err := o.Kube.CoreV1().Services(o.Namespace).Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create Service: %w", err)
	}
	o.say("Service %s/%s is made", o.Namespace, o.Service)
	return nil
}

// remove deletes the Service and waits until it is gone, which takes those who
// have a finalizer on it.
func (o *Options) remove(ctx context.Context) error {
	services := o.Kube.CoreV1().Services(o.Namespace)
	switch err := services.Delete(ctx, o.Service, metav1.DeleteOptions{}); {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("delete Service: %w", err)
	}
	if err := o.until(ctx, "the Service to go", func(ctx context.Context) error {
		_, err := o.get(ctx)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("it is still there"), err)
	}); err != nil {
		return err
	}
	o.say("Service %s/%s is gone", o.Namespace, o.Service)
	return nil
}

// until asks check until it is content; else it returns what check said last.
func (o *Options) until(ctx context.Context, what string, check func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, every, o.Timeout, true, func(ctx context.Context) (bool, error) {
		if err := check(ctx); err != nil {
			if ctx.Err() == nil || last == nil {
				last = err
			}
			return false, nil
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("waited %s for %s: %w", o.Timeout, what, last)
	}
	return nil
}
