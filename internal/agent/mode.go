package agent

import (
	"fmt"
)

// Mode is the choice of who forwards Services.
type Mode string

// The modes of --proxy.
const (
	Auto Mode = "auto" // another proxy if the cluster has one, else fairlead
	Full Mode = "full" // fairlead
	Off  Mode = "off"  // another proxy; fairlead announces alone
)

// ParseMode reads a Mode.
func ParseMode(text string) (Mode, error) {
	switch m := Mode(text); m {
	case Auto, Full, Off:
		return m, nil
	}
	return "", fmt.Errorf("%q is not one of auto, full, off", text)
}

// Proxy is who forwards Services on the nodes of a cluster.
type Proxy string

// The proxies that are told apart.
const (
	Fairlead  Proxy = "fairlead"
	KubeProxy Proxy = "kube-proxy"
	Cilium    Proxy = "cilium"
	Another   Proxy = "another" // one that the API server does not show
)

// Others is what the API server shows of other proxies.
type Others struct {
	KubeProxy bool // the DaemonSet kube-system/kube-proxy is to run on some node
	Cilium    bool // Cilium is told to replace kube-proxy
}

// Decide says who forwards: the same on every node, because every node sees the
// same Others. It fails where fairlead was told to forward beside another proxy
// and not to put up with that (force).
func (m Mode) Decide(o Others, force bool) (Proxy, error) {
	other := Another
	switch {
	case o.KubeProxy:
		other = KubeProxy
	case o.Cilium:
		other = Cilium
	}
	switch {
	case m == Off:
		return other, nil
	case other == Another:
		return Fairlead, nil
	case m == Auto:
		return other, nil
	case !force:
		return "", fmt.Errorf("%s forwards Services in this cluster: remove it, or give --proxy=auto to leave them to it, or --proxy-force to forward beside it while it is being removed", other)
	}
	return Fairlead, nil
}

// answer is what the other proxy's /healthz said.
type answer struct {
	code int   // 0 if there was none
	err  error // why there was none
}

// verdict reports whether the node can forward by means of other, and what is to
// be said about it: kube-proxy always answers, and for others no answer means
// nothing.
func (a answer) verdict(other Proxy) (ready bool, message string) {
	switch {
	case a.code == 200:
		return true, ""
	case a.code != 0:
		return false, fmt.Sprintf("%s forwards Services, and its /healthz answers %d", other, a.code)
	case other == KubeProxy:
		return false, fmt.Sprintf("%s forwards Services, and its /healthz does not answer: %v", other, a.err)
	}
	return true, fmt.Sprintf("%s is assumed to forward Services: no /healthz answers (%v)", other, a.err)
}
