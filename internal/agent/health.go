package agent

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// Health answers probes as kube-proxy does: a node is unhealthy when a change
// has waited for the engine longer than the timeout. None of it asks the API
// server, so that an API outage restarts no agent.
type Health struct {
	timeout time.Duration

	mu      sync.Mutex
	pending time.Time // of the oldest change that the engine does not hold yet; zero: none
	last    time.Time // of the last successful sync
}

func (h *Health) queued(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pending.IsZero() {
		h.pending = at
	}
}

// synced says that the engine holds everything that was known at began.
func (h *Health) synced(began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = time.Now()
	if !h.pending.After(began) {
		h.pending = time.Time{}
	}
}

// Ready tells whether the engine was in sync at least once.
func (h *Health) Ready() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.last.IsZero()
}

// Live tells whether no change has waited too long.
func (h *Health) Live(now time.Time) (live bool, last time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pending.IsZero() || now.Sub(h.pending) < h.timeout, h.last
}

// Register adds /healthz, /livez and /readyz.
func (h *Health) Register(mux *http.ServeMux) {
	mux.HandleFunc("/healthz", h.serveLive)
	mux.HandleFunc("/livez", h.serveLive)
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !h.Ready() {
			http.Error(w, "the engine has not been programmed yet", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
}

func (h *Health) serveLive(w http.ResponseWriter, _ *http.Request) {
	now := time.Now()
	live, last := h.Live(now)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !live {
		w.WriteHeader(http.StatusServiceUnavailable)
	} else {
		last = now
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"lastUpdated": last, "currentTime": now, "healthy": live})
}
