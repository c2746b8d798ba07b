// Package sample looks into the kernel's connection table and answers with what was
// counted there.
package sample

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/traffic"
)

// Handler answers with a traffic.Report, in JSON. However many ask, the kernel's table is read
// no more than once a second, and for no more than a tenth of the time.
type Handler struct {
	Node string
	// VIPs are the addresses that Services hold.
	VIPs func() map[netip.Addr]bool
	// Flows calls its argument with each connection of the kernel's table.
	Flows func(take func(traffic.Flow)) error
	// Counts reports whether the kernel counts bytes.
	Counts func() bool

	mu     sync.Mutex
	meter  traffic.Meter
	answer []byte // the last
	next   time.Time
}

// The least time between two reads of the kernel's table, and as how many times
// the time that a read took.
const (
	leastBetween = time.Second
	timesAsLong  = 10
)

func (h *Handler) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	b, err := h.current()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b)
}

// current returns a Report, in JSON. It is made no more often than the table is read: with
// thousands of addresses that takes milliseconds, and anybody may ask.
func (h *Handler) current() ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	began := time.Now()
	if began.Before(h.next) {
		return h.answer, nil
	}
	vips, flows := h.VIPs(), []traffic.Flow(nil)
	err := h.Flows(func(f traffic.Flow) {
		if vips[f.To.Addr()] { // most of a node's connections go elsewhere
			flows = append(flows, f)
		}
	})
	if err != nil {
		return nil, err
	}
	h.meter.Look(time.Now(), flows, vips)
	r := h.meter.Report()
	r.Node, r.Counts = h.Node, h.Counts()
	if h.answer, err = json.Marshal(r); err != nil {
		return nil, fmt.Errorf("traffic: %w", err)
	}
	h.next = time.Now().Add(max(leastBetween, timesAsLong*time.Since(began)))
	return h.answer, nil
}
