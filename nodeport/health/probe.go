package health

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Probes are the answers of a Proxy over HTTP.
type Probes struct {
	proxy    *Proxy
	answered *prometheus.CounterVec
}

// NewProbes makes Probes that count their answers in reg, if it is not nil.
func NewProbes(p *Proxy, reg prometheus.Registerer) *Probes {
	answered := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fairlead_probe_answers_total", Help: "Answers to probes, by path (/healthz, /livez) and HTTP code.",
	}, []string{"path", "code"})
	if reg != nil {
		reg.MustRegister(answered)
	}
	return &Probes{proxy: p, answered: answered}
}

// Healthz is for load balancers: it fails too when the node is about to go, and
// says then that the engine is healthy nevertheless.
func (p *Probes) Healthz(w http.ResponseWriter, _ *http.Request) {
	r := p.proxy.report(time.Now())
	p.proxy.mu.Lock()
	eligible := p.proxy.eligible
	p.proxy.mu.Unlock()
	r.NodeEligible = &eligible
	p.answer(w, "/healthz", r, r.Healthy && eligible)
}

// Livez is for the kubelet: whether a restart could help.
func (p *Probes) Livez(w http.ResponseWriter, _ *http.Request) {
	r := p.proxy.report(time.Now())
	p.answer(w, "/livez", r, r.Healthy)
}

func (p *Probes) answer(w http.ResponseWriter, path string, r report, ok bool) {
	code := http.StatusServiceUnavailable
	if ok {
		code = http.StatusOK
		r.LastUpdated = r.CurrentTime // clients of old kube-proxies look for a recent time
	}
	p.answered.WithLabelValues(path, strconv.Itoa(code)).Inc()
	header(w)
	w.WriteHeader(code)
	body, err := json.Marshal(r)
	if err != nil {
		return // no value of the report can fail; the code is the answer
	}
	_, _ = w.Write(body)
}

func header(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
}
