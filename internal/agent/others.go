package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/fairlead/fairlead/internal/reconcile"
)

// Where other proxies show. The chart's role allows to get these objects alone.
const (
	systemNamespace = "kube-system"
	kubeProxyName   = "kube-proxy"
	ciliumConfig    = "cilium-config"
)

// lookEvery is how often an agent looks for other proxies after its start, and
// up to half as much longer, so that a cluster's agents do not ask together.
const lookEvery = time.Minute

// apiTimeout is how long one question to the API server may take.
const apiTimeout = 3 * time.Second

// readOthers asks the API server for other proxies.
func readOthers(ctx context.Context, client kubernetes.Interface) (o Others, err error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	fromCache := metav1.GetOptions{ResourceVersion: "0"}
	ds, err := client.AppsV1().DaemonSets(systemNamespace).Get(ctx, kubeProxyName, fromCache)
	if err != nil && !apierrors.IsNotFound(err) {
		return o, fmt.Errorf("look for kube-proxy: %w", err)
	}
	o.KubeProxy = err == nil && hasPods(ds)
	cm, err := client.CoreV1().ConfigMaps(systemNamespace).Get(ctx, ciliumConfig, fromCache)
	if err != nil && !apierrors.IsNotFound(err) {
		return o, fmt.Errorf("look for Cilium: %w", err)
	}
	o.Cilium = err == nil && replacesKubeProxy(cm.Data)
	return o, nil
}

// hasPods reports whether ds has pods, or may have: some turn kube-proxy off by a
// node selector that no node has.
func hasPods(ds *appsv1.DaemonSet) bool {
	st := ds.Status
	return st.ObservedGeneration < ds.Generation || st.DesiredNumberScheduled > 0 || st.NumberMisscheduled > 0
}

// replacesKubeProxy reads Cilium's configuration; strict is what true was called before
// its version 1.14.
func replacesKubeProxy(config map[string]string) bool {
	v := config["kube-proxy-replacement"]
	return v == "true" || v == "strict"
}

// chooseProxy finds out who forwards. While the API server does not answer, it is
// the one that forwarded when the snapshot was saved; without a saved one, auto waits
// for an answer, and the other modes need none.
func (a *Agent) chooseProxy(ctx context.Context) (Proxy, error) {
	var others Others
	a.cluster.asked = time.Now()
	var last error
	err := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		others, last = readOthers(ctx, a.cfg.Clients.Kube)
		known := a.cfg.Mode != Auto || a.cluster.savedProxy() != ""
		switch {
		case last == nil:
			a.cluster.asked = time.Now() // it is there, and is to list the cluster now
			return true, nil
		case time.Since(a.cluster.asked) < patience:
			return false, nil // an API server that starts forbids what it does not know yet
		case !known && apierrors.IsForbidden(last):
			return false, fmt.Errorf("--proxy=auto needs to know: %w", last)
		}
		return known, nil
	})
	if err != nil {
		return "", err
	}
	if last != nil {
		a.cfg.Log.Warn("cannot tell whether another proxy forwards Services", "error", last)
		if a.cfg.Mode == Auto {
			return a.cluster.savedProxy(), nil
		}
	}
	return a.cfg.Mode.Decide(others, a.cfg.Force)
}

// watchOthers ends with an error when somebody else has become the one to
// forward: the agent has to restart, with other ports and another duty.
func (a *Agent) watchOthers(ctx context.Context) (changed error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	loop := reconcile.New("other proxies", a.cfg.Log)
	loop.Resync = lookEvery + rand.N(lookEvery/2)
	loop.MinRetry, loop.MaxRetry = lookEvery/8, lookEvery
	loop.Run(ctx, func(ctx context.Context) error {
		others, err := readOthers(ctx, a.cfg.Clients.Kube)
		if err != nil {
			return err
		}
		now, err := a.cfg.Mode.Decide(others, true)
		if err != nil {
			return err
		}
		if now != a.engine.proxy {
			changed = fmt.Errorf("services were forwarded by %s and are now to be forwarded by %s: restarting", a.engine.proxy, now)
			cancel()
		}
		return nil
	})
	return changed
}
