package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/link/steer"
	"github.com/fairlead/fairlead/internal/marks"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// ways has answers leave by the link on which their connection came in: it keeps a routing
// table for each link, and says which number the engine is to mark its connections with.
type ways struct {
	links   func() []link.Way
	field   marks.Field // the zero Field: answers leave as the routes say
	changed func()      // called when Numbered returns something else
	loop    *reconcile.Loop

	mu    sync.Mutex
	known bool
	all   []link.Way
	now   []proxy.Way
}

func newWays(field marks.Field, log *slog.Logger, links func() []link.Way, changed func()) *ways {
	w := &ways{links: links, field: field, changed: changed, loop: reconcile.New("ways of answers", log)}
	w.loop.Resync = time.Minute // somebody may have taken a rule or a route out
	return w
}

// Run works until ctx ends, and leaves the routes: a stop is a restart.
func (w *ways) Run(ctx context.Context) {
	if w.field == (marks.Field{}) {
		return
	}
	w.loop.Run(ctx, func(context.Context) error { return w.step() })
}

func (w *ways) step() error {
	all := w.links()
	w.mu.Lock()
	idle := w.known && len(all)+len(w.now) == 0
	w.mu.Unlock()
	if idle {
		return nil // most nodes have one link, and nothing to keep
	}
	had, err := link.Space.Links()
	if err != nil {
		return err
	}
	tables, now := tablesOf(all, had, w.field)
	// The tables come before the marks that lead to them. A mark that leads nowhere is
	// without effect, so they may go in any order.
	apart := func(way link.Way) bool { return way.VRF != "" }
	err = errors.Join(link.Space.Sync(tables), link.Inside(w.field).Set(slices.ContainsFunc(all, apart)))
	w.keep(all, now)
	return err
}

// tablesOf returns the routing tables of all, and the numbers of their links by name. had
// are the links that have numbers already.
func tablesOf(all []link.Way, had map[int]int, field marks.Field) (tables []steer.Table, now []proxy.Way) {
	var routed, others []int
	for _, l := range all {
		if l.Router(true) || l.Router(false) {
			routed = append(routed, l.Index)
		} else {
			others = append(others, l.Index)
		}
	}
	// A node may have more bridges than there are numbers, and they need none.
	numbers := steer.Numbers(append(routed, others...), had, marks.MostLinks)
	for _, l := range all {
		if n := numbers[l.Index]; n > 0 {
			tables = append(tables, l.Table(n, field))
			now = append(now, proxy.Way{Link: l.Link, Number: n, VRF: l.VRF})
		}
	}
	slices.SortFunc(now, func(a, b proxy.Way) int { return strings.Compare(a.Link, b.Link) })
	return tables, now
}

// lacking names the links of held on which no router is known, with the family: a CNI's
// bridge needs none.
func lacking(all []link.Way, held []announcer.Claim) (out []string) {
	for _, l := range all {
		for _, c := range held {
			if c.Link == l.Link && !l.Router(c.Addr.Is4()) {
				out = append(out, fmt.Sprintf("%s (%s)", l.Link, snapshot.FamilyOf(c.Addr)))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// keep makes now what Numbered returns.
func (w *ways) keep(all []link.Way, now []proxy.Way) {
	w.mu.Lock()
	same := w.known && slices.Equal(w.now, now) && reflect.DeepEqual(w.all, all)
	w.known, w.all, w.now = true, all, now
	w.mu.Unlock()
	if !same {
		w.changed()
	}
}

// Numbered returns the links by which answers may leave, sorted by name.
func (w *ways) Numbered() []proxy.Way {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// condition is what the NodeState says of the links on which addresses are held; nil where
// the node has one link.
func (w *ways) condition(held []announcer.Claim) []metav1.Condition {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.now) == 0 {
		return nil
	}
	c := metav1.Condition{
		Type: v1alpha1.ConditionRouters, Status: metav1.ConditionTrue, Reason: "Known",
		Message: "answers leave by the link on which their connection came in, and its router",
	}
	if lost := lacking(w.all, held); len(lost) > 0 {
		c.Status, c.Reason = metav1.ConditionFalse, "Unknown"
		c.Message = "no router is known on " + strings.Join(lost, ", ") + ": answers to clients behind one leave by another link. Give the node a route through that router"
	}
	return []metav1.Condition{c}
}

// end takes the routes out.
func (w *ways) end() error {
	if err := errors.Join(link.Space.Cleanup(), link.Inside(w.field).Set(false)); err != nil {
		return errors.Join(errors.New("the routes of answers stay"), err)
	}
	return nil
}
