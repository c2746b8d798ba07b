package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/plain"
	"github.com/fairlead/fairlead/internal/proxies"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/saved"
	"github.com/fairlead/fairlead/internal/server"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Where other proxies show in the cluster. The chart's role allows to get these objects
// alone.
const (
	systemNamespace = "kube-system"
	kubeProxyName   = "kube-proxy"
	ciliumConfig    = "cilium-config"
)

// lookEvery is how often an agent asks the API server for other proxies after its start, and
// up to half as much longer, so that a cluster's agents do not ask together. traceEvery is how
// often it looks at the node.
const (
	lookEvery  = time.Minute
	traceEvery = 2 * time.Second
)

// apiTimeout is how long one question to the API server may take.
const apiTimeout = 3 * time.Second

// settleFor is how long an agent that starts on a node for the first time waits for a sign
// of a proxy whose objects are there. yieldFor is how long one that forwards waits for the
// other to answer, after it has left the ports to it.
const (
	settleFor = 10 * time.Second
	yieldFor  = 30 * time.Second
)

// ErrChanged is the error of Serve when the agent is to start again, because another one is
// to forward Services from now on.
var ErrChanged = errors.New("who forwards Services has changed")

// others looks for other proxies.
type others struct {
	traces func() proxies.Facts // what the node shows; nil: nothing
	again  time.Time            // when to ask the API server; its loop's alone
	yields time.Time            // since when the ports are left to another proxy; its loop's alone
	judge  proxies.Judge        // its loop's alone

	mu   sync.Mutex
	own  map[string]bool // addresses that the agent listens on
	api  *proxies.Facts  // what the API server says; nil before it did
	now  Forwarder
	told string // of now, in the log
}

// listen opens an address as server.Listen does. No look takes the port for another's.
func (o *others) listen(address string, mux http.Handler) (func(context.Context) error, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	serve, err := server.Listen(address, mux)
	if err != nil {
		return nil, err
	}
	if o.own == nil {
		o.own = map[string]bool{}
	}
	o.own[address] = true
	return func(ctx context.Context) error {
		defer func() {
			o.mu.Lock()
			defer o.mu.Unlock()
			delete(o.own, address)
		}()
		return serve(ctx)
	}, nil
}

// readOthers asks the API server for other proxies.
func readOthers(ctx context.Context, client kubernetes.Interface) (*proxies.Facts, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	out := &proxies.Facts{Declared: map[proxies.Name]string{}, Denied: map[proxies.Name]bool{}}
	// From the API server's memory, not etcd: each agent of a cluster asks.
	fromCache := metav1.GetOptions{ResourceVersion: "0"}
	ds, err := client.AppsV1().DaemonSets(systemNamespace).Get(ctx, kubeProxyName, fromCache)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("look for kube-proxy: %w", err)
	}
	if err == nil && hasPods(ds) {
		out.Declared[proxies.KubeProxy] = "DaemonSet kube-system/kube-proxy is to run"
	}
	cm, err := client.CoreV1().ConfigMaps(systemNamespace).Get(ctx, ciliumConfig, fromCache)
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return nil, fmt.Errorf("look for Cilium: %w", err)
	case replacesKubeProxy(cm.Data):
		out.Declared[proxies.Cilium] = "ConfigMap kube-system/cilium-config has it replace kube-proxy"
	default:
		// It is on the nodes all the same, as their CNI.
		out.Denied[proxies.Cilium] = true
	}
	return out, nil
}

// hasPods reports whether ds has pods, or may have: some turn kube-proxy off by a
// node selector that no node has.
func hasPods(ds *appsv1.DaemonSet) bool {
	st := ds.Status
	// A status from before the last change says nothing of the node selector that it brought.
	return st.ObservedGeneration < ds.Generation || st.DesiredNumberScheduled > 0 || st.NumberMisscheduled > 0
}

// replacesKubeProxy reports whether Cilium is configured to forward Services. strict is what
// true was called before Cilium 1.14.
func replacesKubeProxy(config map[string]string) bool {
	v := config["kube-proxy-replacement"]
	return v == "true" || v == "strict"
}

// facts returns what shows of other proxies now. Before the API server has answered, who
// forwarded when the last agent ran still does.
func (o *others) facts(was proxies.Name) proxies.Facts {
	o.mu.Lock()
	defer o.mu.Unlock()
	var f proxies.Facts
	if o.traces != nil {
		f = o.traces()
	}
	f.Listening = maps.Clone(f.Listening)
	// An agent would take its own port 10256 for another proxy's.
	for address := range o.own {
		delete(f.Listening, portOf(address))
	}
	switch {
	case o.api != nil:
		f.Declared, f.Denied = o.api.Declared, o.api.Denied
	case was != "" && was != Fairlead && was != proxies.Another:
		f.Declared = map[proxies.Name]string{was: "it forwarded when the API server last answered"}
	}
	return f
}

// lookForOthers decides who forwards by what shows now.
func (a *Agent) lookForOthers(was proxies.Name) Forwarder {
	f := a.others.facts(was)
	for _, text := range f.Unread {
		a.cfg.Log.Debug("cannot look for another proxy", "error", text)
	}
	return a.cfg.Mode.Decide(a.others.judge.Look(f, time.Now()), a.cfg.Force, was)
}

// askForOthers asks the API server, if that is due at now.
func (a *Agent) askForOthers(ctx context.Context, now time.Time) error {
	o := &a.others
	if now.Before(o.again) {
		return nil
	}
	api, err := readOthers(ctx, a.cfg.Clients.Kube)
	if err != nil {
		o.again = now.Add(lookEvery / 2)
		return err
	}
	o.again = now.Add(lookEvery + rand.N(lookEvery/2))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.api = api
	return nil
}

// chooseProxy finds out who forwards. While the API server does not answer, the node and
// what was saved show it. An agent in the mode auto that never knew waits for an answer.
func (a *Agent) chooseProxy(ctx context.Context) (now Forwarder, err error) {
	was := a.cluster.savedProxy()
	began := time.Now()
	a.cluster.asked = began
	if was != "" && was != proxies.Another {
		a.others.judge.Recall(was, began)
	}
	var last error
	err = wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		a.others.again = time.Time{}
		last = a.askForOthers(ctx, time.Now())
		now = a.lookForOthers(was)
		switch {
		case last == nil:
			a.cluster.asked = time.Now() // it is there, and is to list the cluster now
		case time.Since(a.cluster.asked) < patience:
			return false, nil // an API server that starts forbids what it does not know yet
		case a.cfg.Mode == Auto && was == "" && !apierrors.IsForbidden(last):
			return false, nil
		}
		// On a new node rules may be there before what writes them answers.
		settled := a.cfg.Mode != Auto || was == Fairlead || now.Reason != "LeftBehind" || time.Since(began) >= settleFor
		return settled, nil
	})
	if err == nil && last != nil {
		a.cfg.Log.Warn("the API server does not say whether another proxy forwards Services", "error", last)
	}
	return now, err
}

// watchOthers ends with an error when somebody else has become the one to forward: the agent
// is to start again, with other ports and another duty.
func (a *Agent) watchOthers(ctx context.Context) (changed error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	loop := reconcile.New("other proxies", a.cfg.Log)
	loop.Resync = traceEvery
	loop.MinRetry, loop.MaxRetry = traceEvery, traceEvery
	loop.Run(ctx, func(ctx context.Context) error {
		err := a.askForOthers(ctx, time.Now())
		now := a.lookForOthers(a.engine.proxy)
		switch {
		case a.mayChange(ctx, now):
			// The next agent says who forwards then. Until it runs, nothing is different.
			changed = fmt.Errorf("%w: %s did, and %s is to (%s)", ErrChanged, a.engine.proxy, now.Proxy, now.Message)
			a.remember(now.Proxy)
			cancel()
		case !a.others.yields.IsZero():
			a.say(now.notYet())
		default:
			a.say(now)
		}
		return err
	})
	return changed
}

// mayChange reports whether the agent is to start again, after a look that has now forward.
// An agent that forwards first leaves its ports to the other proxy, and forwards until that
// one answers: there is always one that does.
func (a *Agent) mayChange(ctx context.Context, now Forwarder) bool {
	o := &a.others
	switch {
	case (now.Proxy == Fairlead) == (a.engine.proxy == Fairlead):
		return !o.yields.IsZero() // the ports are to be opened again
	case a.engine.proxy != Fairlead:
		return true
	case o.yields.IsZero():
		a.cfg.Log.Info("another proxy has come: leaving the ports of a proxy to it", "proxy", now.Proxy, "evidence", now.Message)
		o.yields = time.Now()
		a.yield()
		return false
	}
	return a.engine.other.ask(ctx, a.cfg.OtherHealth).code == http.StatusOK || time.Since(o.yields) >= yieldFor
}

// remember has the next agent know who forwards.
func (a *Agent) remember(proxy proxies.Name) {
	var s *snapshot.Snapshot
	if s = a.cluster.store.Snapshot(); s == nil && a.cluster.saved != nil {
		s = a.cluster.saved.Snapshot
	}
	if a.cfg.StateDir == "" || s == nil {
		return
	}
	if err := saved.Write(a.cfg.StateDir, saved.State{Node: a.cfg.Node, Written: time.Now(), Proxy: string(proxy), Snapshot: s}); err != nil {
		a.cfg.Log.Warn("the next agent will not know who forwards", "error", err)
	}
}

// say makes now what the NodeState, the metrics and the log say.
func (a *Agent) say(now Forwarder) {
	o := &a.others
	o.mu.Lock()
	news := o.told != now.Message
	o.now, o.told = now, now.Message
	o.mu.Unlock()
	if !news {
		return
	}
	log := a.cfg.Log.Info
	if now.Status != metav1.ConditionTrue || now.Reason == "LeftBehind" {
		log = a.cfg.Log.Warn
	}
	log("who forwards Services", "mode", a.cfg.Mode, "proxy", now.Proxy, "reason", now.Reason, "message", now.Message)
	a.metrics.others.Reset()
	for _, f := range now.Found {
		a.metrics.others.WithLabelValues(string(f.Proxy), string(f.Certainty)).Set(1)
	}
	a.report.loop.Wake()
}

// name returns who forwards.
func (o *others) name() proxies.Name {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.now.Proxy
}

// condition returns what the NodeState says of who forwards; nil before the first look.
func (o *others) condition() []metav1.Condition {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.now.Reason == "" {
		return nil
	}
	return []metav1.Condition{{
		Type: v1alpha1.ConditionServiceProxy, Status: o.now.Status, Reason: o.now.Reason, Message: plain.Cut(o.now.Message, 4096),
	}}
}
