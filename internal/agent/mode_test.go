package agent

import (
	"errors"
	"strings"
	"testing"
)

func TestDecideProxy(t *testing.T) {
	none, kubeProxy, cilium := Others{}, Others{KubeProxy: true}, Others{Cilium: true}
	tests := []struct {
		mode   Mode
		others Others
		force  bool
		want   Proxy // "": refused
	}{
		{mode: Auto, others: none, want: Fairlead},
		{mode: Auto, others: kubeProxy, want: KubeProxy},
		{mode: Auto, others: cilium, want: Cilium},
		{mode: Auto, others: kubeProxy, force: true, want: KubeProxy},
		{mode: Auto, others: Others{KubeProxy: true, Cilium: true}, want: KubeProxy},
		{mode: Off, others: none, want: Another},
		{mode: Off, others: kubeProxy, want: KubeProxy},
		{mode: Off, others: cilium, want: Cilium},
		{mode: Full, others: none, want: Fairlead},
		{mode: Full, others: kubeProxy},
		{mode: Full, others: cilium},
		{mode: Full, others: kubeProxy, force: true, want: Fairlead},
		{mode: Full, others: cilium, force: true, want: Fairlead},
	}
	for _, tt := range tests {
		got, err := tt.mode.Decide(tt.others, tt.force)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%s beside %+v, force=%v: got %q, %v; want %q", tt.mode, tt.others, tt.force, got, err, tt.want)
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
		other Proxy
		a     answer
		ready bool
		says  string
	}{
		{KubeProxy, answer{code: 200}, true, ""},
		{KubeProxy, answer{code: 503}, false, "answers 503"},
		{KubeProxy, refused, false, "does not answer: refused"},
		{Cilium, answer{code: 200}, true, ""},
		{Cilium, answer{code: 503}, false, "answers 503"},
		{Cilium, refused, true, "assumed"},
		{Another, refused, true, "assumed"},
	}
	for _, tt := range tests {
		ready, says := tt.a.verdict(tt.other)
		if ready != tt.ready || !strings.Contains(says, tt.says) || (says == "") != (tt.says == "") {
			t.Errorf("%s %+v: got %v %q", tt.other, tt.a, ready, says)
		}
	}
}
