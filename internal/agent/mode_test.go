package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/proxies"
)

// seen makes what was found: "runs kube-proxy" of the node, "declared kube-proxy" of the
// cluster alone.
func seen(texts ...string) (out []proxies.Found) {
	for _, text := range texts {
		certainty, name, _ := strings.Cut(text, " ")
		f := proxies.Found{Proxy: proxies.Name(name), Certainty: proxies.Certainty(certainty), Here: true, Evidence: []string{"a trace"}}
		if certainty == "declared" {
			f.Certainty, f.Here = proxies.Runs, false
		}
		out = append(out, f)
	}
	return out
}

// Two never forward unless they are told to, and what is not certain is left alone and told.
func TestDecideProxy(t *testing.T) {
	tests := []struct {
		mode  Mode
		found []proxies.Found
		force bool
		was   proxies.Name
		want  string // proxy, status, reason
	}{
		{mode: Auto, want: "fairlead True Fairlead"},
		{mode: Auto, found: seen("runs kube-proxy"), want: "kube-proxy True LeftToAnother"},
		{mode: Auto, found: seen("runs kube-proxy"), force: true, want: "kube-proxy True LeftToAnother"},
		{mode: Auto, found: seen("left kube-proxy"), want: "fairlead True LeftBehind"},
		{mode: Auto, found: seen("left kube-proxy", "runs cilium"), want: "cilium True LeftToAnother"},
		{mode: Auto, found: seen("left kube-proxy", "unknown calico"), want: "calico Unknown NotCertain"},
		{mode: Auto, found: seen("unknown another"), want: "another Unknown NotCertain"},
		{mode: Auto, found: seen("declared kube-proxy"), want: "kube-proxy True LeftToAnother"},
		{mode: Auto, found: seen("declared kube-proxy"), was: Fairlead, want: "fairlead True Fairlead"},
		{mode: Auto, found: seen("runs kube-proxy"), was: Fairlead, want: "kube-proxy True LeftToAnother"},
		{mode: Off, want: "another Unknown NotSeen"},
		{mode: Off, found: seen("runs kube-proxy"), want: "kube-proxy True LeftToAnother"},
		{mode: Off, found: seen("unknown cilium"), want: "cilium True LeftToAnother"},
		{mode: Off, found: seen("left kube-proxy"), want: "another Unknown NotSeen"},
		{mode: Full, want: "fairlead True Fairlead"},
		{mode: Full, found: seen("runs kube-proxy"), want: "kube-proxy False Refused"},
		{mode: Full, found: seen("declared kube-proxy"), want: "kube-proxy False Refused"},
		{mode: Full, found: seen("declared kube-proxy"), was: Fairlead, want: "fairlead True Fairlead"},
		{mode: Full, found: seen("declared kube-proxy"), was: Fairlead, force: true, want: "fairlead True Fairlead"},
		{mode: Full, found: seen("runs kube-proxy"), force: true, want: "fairlead False TwoProxies"},
		{mode: Full, found: seen("unknown another"), want: "fairlead Unknown NotCertain"},
		{mode: Full, found: seen("left kube-proxy"), want: "fairlead True LeftBehind"},
	}
	for _, tt := range tests {
		got := tt.mode.Decide(tt.found, tt.force, tt.was)
		if text := fmt.Sprint(got.Proxy, " ", got.Status, " ", got.Reason); text != tt.want {
			t.Errorf("%s beside %+v, force=%v, was %q: got %s, want %s", tt.mode, tt.found, tt.force, tt.was, text, tt.want)
		}
		for _, f := range tt.found {
			if strongest, _ := proxies.Strongest(tt.found); f.Certainty == strongest.Certainty && tt.want != "another Unknown NotSeen" && !strings.Contains(got.Message, f.String()) {
				t.Errorf("%s does not name %s", got.Message, f)
			}
		}
	}
}

func TestParseMode(t *testing.T) {
	for _, text := range []string{"auto", "full", "off"} {
		if m, err := ParseMode(text); err != nil || string(m) != text {
			t.Errorf("%s: got %q, %v", text, m, err)
		}
	}
	if _, err := ParseMode("iptables"); err == nil {
		t.Error("iptables is not a mode")
	}
}

func TestVerdict(t *testing.T) {
	refused := answer{err: errors.New("refused")}
	tests := []struct {
		other proxies.Name
		a     answer
		ready bool
		says  string
	}{
		{proxies.KubeProxy, answer{code: 200}, true, ""},
		{proxies.KubeProxy, answer{code: 503}, false, "answers 503"},
		{proxies.KubeProxy, refused, false, "does not answer: refused"},
		{proxies.Cilium, answer{code: 200}, true, ""},
		{proxies.Cilium, answer{code: 503}, false, "answers 503"},
		{proxies.Cilium, refused, true, "assumed"},
		{proxies.Another, refused, true, "assumed"},
	}
	for _, tt := range tests {
		ready, says := tt.a.verdict(tt.other)
		if ready != tt.ready || !strings.Contains(says, tt.says) || (says == "") != (tt.says == "") {
			t.Errorf("%s %+v: got %v %q", tt.other, tt.a, ready, says)
		}
	}
}
