package health

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/internal/snapshot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ask sends one request and returns code and body.
func ask(p *Probes, path string) (int, string) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", path, nil)
	if path == "/healthz" {
		p.Healthz(w, r)
	} else {
		p.Livez(w, r)
	}
	return w.Code, w.Body.String()
}

func wants(t *testing.T, p *Probes, path string, code int, body string) {
	t.Helper()
	gotCode, gotBody := ask(p, path)
	if gotCode != code || gotBody != body {
		t.Errorf("%s: got %d %s\nwant %d %s", path, gotCode, gotBody, code, body)
	}
}

func succeed(p *Proxy, families ...snapshot.Family) {
	now := time.Now()
	for _, f := range families {
		p.Synced(f, now, now)
	}
}

// spec 57, 58, 98: the bodies, byte for byte. A bubble's clock starts at
// midnight on 2000-01-01.
func TestBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Proxy{}
		probes := NewProbes(p, nil)
		wants(t, probes, "/livez", 200, `{"lastUpdated":"`+now()+`","currentTime":"`+now()+`","healthy":true}`)
		p.SetEligible(true)
		start := now()
		succeed(p, families...)
		time.Sleep(5 * time.Second)
		both := `"status":{"IPv4":{"lastUpdated":"` + start + `","healthy":true},"IPv6":{"lastUpdated":"` + start + `","healthy":true}}}`
		wants(t, probes, "/healthz", 200, `{"lastUpdated":"`+now()+`","currentTime":"`+now()+`","nodeEligible":true,"healthy":true,`+both)
		wants(t, probes, "/livez", 200, `{"lastUpdated":"`+now()+`","currentTime":"`+now()+`","healthy":true,`+both)
		p.SetEligible(false)
		wants(t, probes, "/healthz", 503, `{"lastUpdated":"`+start+`","currentTime":"`+now()+`","nodeEligible":false,"healthy":true,`+both)
		wants(t, probes, "/livez", 200, `{"lastUpdated":"`+now()+`","currentTime":"`+now()+`","healthy":true,`+both)
	})
}

func now() string {
	text, _ := json.Marshal(time.Now())
	return strings.Trim(string(text), `"`)
}

// spec 58: a change that waits longer than the timeout makes the node
// unhealthy, one family apart from the other, until a sync succeeds.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Proxy{}
		healthy := func(want bool) {
			t.Helper()
			if got := p.Healthy(time.Now()); got != want {
				t.Errorf("at %s: healthy is %v", now(), got)
			}
		}
		p.Queued(time.Now())
		time.Sleep(Timeout)
		healthy(true) // still starting
		succeed(p, families...)
		p.Queued(time.Now())
		time.Sleep(Timeout - time.Second)
		p.Queued(time.Now()) // the oldest counts
		healthy(true)
		time.Sleep(time.Second)
		healthy(false)
		succeed(p, snapshot.IPv4)
		r := p.report(time.Now())
		if r.Healthy || !r.Status["IPv4"].Healthy || r.Status["IPv6"].Healthy {
			t.Errorf("got %+v, want IPv6 alone to be unhealthy", r)
		}
		succeed(p, snapshot.IPv6)
		healthy(true)
	})
}

// A change that comes in while a sync runs is not part of it.
func TestQueuedDuringSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Proxy{}
		succeed(p, families...)
		p.Queued(time.Now())
		began := time.Now()
		time.Sleep(time.Second)
		p.Queued(time.Now())
		for _, f := range families {
			p.Synced(f, began, time.Now())
		}
		time.Sleep(Timeout)
		if p.Healthy(time.Now()) {
			t.Error("the change that came during the sync was forgotten")
		}
	})
}

func TestStarted(t *testing.T) {
	p := &Proxy{}
	succeed(p, snapshot.IPv4)
	if p.Started() {
		t.Error("started with one family")
	}
	succeed(p, snapshot.IPv6)
	if !p.Started() {
		t.Error("not started with both")
	}
}

func TestAnswersAreCounted(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	probes := NewProbes(&Proxy{}, reg)
	ask(probes, "/healthz")
	ask(probes, "/livez")
	ask(probes, "/livez")
	want := `
# HELP fairlead_probe_answers_total Answers to probes, by path (/healthz, /livez) and HTTP code.
# TYPE fairlead_probe_answers_total counter
fairlead_probe_answers_total{code="200",path="/livez"} 2
fairlead_probe_answers_total{code="503",path="/healthz"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
