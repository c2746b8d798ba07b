package agent

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/internal/proxies"
)

// Mode is the choice of who forwards Services.
type Mode string

// The modes of --proxy.
const (
	Auto Mode = "auto" // another proxy if there is one, else fairlead
	Full Mode = "full" // fairlead
	Off  Mode = "off"  // another proxy; fairlead announces alone
)

// ParseMode reads a Mode. It refuses any other text, the empty one too.
func ParseMode(text string) (Mode, error) {
	switch m := Mode(text); m {
	case Auto, Full, Off:
		return m, nil
	}
	return "", fmt.Errorf("%q is not one of auto, full, off", text)
}

// Fairlead is the proxy that the agent is.
const Fairlead = proxies.Fairlead

// Forwarder is who forwards Services on the node, and what the NodeState says of it.
type Forwarder struct {
	Proxy   proxies.Name
	Status  metav1.ConditionStatus // of the condition ServiceProxy
	Reason  string
	Message string
	Found   []proxies.Found
}

// Decide says who forwards beside the proxies that were found. force has fairlead forward
// beside one that runs. was is who forwarded until now, "" if that is not known.
func (m Mode) Decide(found []proxies.Found, force bool, was proxies.Name) Forwarder {
	other, _ := proxies.Strongest(found)
	runs, unknown := other.Certainty == proxies.Runs, other.Certainty == proxies.Unknown
	say := func(proxy proxies.Name, status metav1.ConditionStatus, reason, format string, args ...any) Forwarder {
		return Forwarder{Proxy: proxy, Status: status, Reason: reason, Message: fmt.Sprintf(format, args...), Found: found}
	}
	switch {
	case m == Off && (runs || unknown):
		return say(other.Proxy, metav1.ConditionTrue, "LeftToAnother", "%s forwards Services", these(found))
	case m == Off:
		return say(proxies.Another, metav1.ConditionUnknown, "NotSeen", "fairlead does not forward Services (agent.proxy: off), and the agent sees no other proxy on the node")
	case runs && was == Fairlead && !other.Here:
		// It is about to come. A node that forwards goes on until then.
		return say(Fairlead, metav1.ConditionTrue, "Fairlead", "fairlead forwards Services. The node does not have %s yet", these(found))
	case runs && m == Full && force:
		return say(Fairlead, metav1.ConditionFalse, "TwoProxies", "fairlead forwards Services, and %s does too", these(found))
	case runs && m == Full:
		// An agent that ends instead would be started again and again, and announce nothing.
		return say(other.Proxy, metav1.ConditionFalse, "Refused", "fairlead is to forward Services (agent.proxy: full), and does not while %s does", these(found))
	case runs:
		return say(other.Proxy, metav1.ConditionTrue, "LeftToAnother", "%s forwards Services", these(found))
	case unknown && m == Full:
		return say(Fairlead, metav1.ConditionUnknown, "NotCertain", "fairlead forwards Services (agent.proxy: full), and %s may do so too", these(found))
	case unknown:
		return say(other.Proxy, metav1.ConditionUnknown, "NotCertain", "fairlead does not forward Services, because %s may do so", these(found))
	// kube-proxy leaves its rules in the kernel when it ends.
	case len(found) > 0:
		return say(Fairlead, metav1.ConditionTrue, "LeftBehind", "fairlead forwards Services. Of a proxy that no longer runs there is left: %s", these(found))
	}
	return say(Fairlead, metav1.ConditionTrue, "Fairlead", "fairlead forwards Services")
}

// notYet is what an agent says that forwards until f, another proxy, answers.
func (f Forwarder) notYet() Forwarder {
	f.Proxy, f.Status, f.Reason = Fairlead, metav1.ConditionTrue, "Fairlead"
	f.Message = fmt.Sprintf("fairlead forwards Services until %s answers, for %s at most", these(f.Found), yieldFor)
	return f
}

// these names the proxies that were found with the evidence, the surest alone.
func these(found []proxies.Found) string {
	surest, _ := proxies.Strongest(found)
	var texts []string
	for _, f := range found {
		if f.Certainty == surest.Certainty {
			texts = append(texts, f.String())
		}
	}
	return strings.Join(texts, " and ")
}

// answer is what the other proxy's /healthz said.
type answer struct {
	code int   // 0 if there was none
	err  error // why there was none
}

// verdict reports whether the node can forward by means of other, and what is to
// be said about it: kube-proxy always answers, and for others no answer means
// nothing.
func (a answer) verdict(other proxies.Name) (ready bool, message string) {
	switch {
	case a.code == 200:
		return true, ""
	case a.code != 0:
		return false, fmt.Sprintf("%s forwards Services, and its /healthz answers %d", other, a.code)
	case other == proxies.KubeProxy:
		return false, fmt.Sprintf("%s forwards Services, and its /healthz does not answer: %v", other, a.err)
	}
	return true, fmt.Sprintf("%s is assumed to forward Services: no /healthz answers (%v)", other, a.err)
}
