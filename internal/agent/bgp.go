package agent

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/announcer/bgp/speaker"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// passwordsEvery is how often the Secrets of BGPPeers are read.
const passwordsEvery = 15 * time.Second

// routes announces over BGP what Plans say. Its loop is apart from the others: a
// session's process that does not answer delays neither layer 2 nor the engine.
type routes struct {
	cfg     *Config
	speaker *speaker.Speaker
	syncer  syncer      // speaker
	forGood func() bool // whether a stop is not a restart
	changed func()      // called when Passwords returns something else
	done    func()      // called when what order.withdraw does not have is withdrawn
	loop    *reconcile.Loop
	secrets *reconcile.Loop
	routers *routers
	unheld  *unheld
	was     bgp.Plan // the last that was carried out; the loop's alone

	mu        sync.Mutex
	order     routesOrder
	through   uint64 // the last order whose withdrawals are done
	wanted    []snapshot.SecretKey
	passwords map[snapshot.SecretKey]string
}

// syncer is what routes acts on: *speaker.Speaker.
type syncer interface{ Sync(plan bgp.Plan) }

// routesOrder is what one Plan says. Orders that come while one is carried out
// replace each other.
type routesOrder struct {
	number   uint64
	withdraw *bgp.Plan // nil: nothing is withdrawn
	announce bgp.Plan
	snapshot *snapshot.Snapshot
}

func newRoutes(cfg *Config, changed, report, done func(), forGood func() bool) *routes {
	r := &routes{
		cfg: cfg, changed: changed, forGood: forGood, done: done, passwords: map[snapshot.SecretKey]string{},
		routers: newRouters(cfg.Log, changed), unheld: newUnheld(cfg.Log),
		speaker: speaker.New(cfg.Log, report, sessionProcess), loop: reconcile.New("BGP", cfg.Log), secrets: reconcile.New("BGP passwords", cfg.Log),
	}
	r.syncer = r.speaker
	r.loop.Coalesce, r.loop.Resync = 0, 0 // the decider has coalesced already
	r.secrets.Resync = passwordsEvery
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(&bgpMetrics{r.speaker.Status})
	}
	return r
}

// SessionCommand is the name of the command that holds one BGP session.
const SessionCommand = "bgp-session"

// sessionProcess is this program, as the process of one session.
func sessionProcess() *exec.Cmd { return exec.Command("/proc/self/exe", SessionCommand) }

// Run carries orders out, reads passwords and watches the paths to the peers until
// ctx ends. The sessions are left to end with the process, without a NOTIFICATION, since a stop
// is a restart; or everything is withdrawn if it is none.
func (r *routes) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { r.secrets.Run(ctx, r.read) })
	wg.Go(func() { r.routers.Run(ctx) })
	wg.Go(func() { r.unheld.Run(ctx) })
	wg.Go(func() { r.loop.Run(ctx, r.step) })
	// The sessions outlive ctx: a stop for good withdraws before they end.
	speaking, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	wg.Go(func() {
		<-ctx.Done()
		if r.forGood() {
			r.speaker.Close()
			r.unheld.end()
		}
		stop()
	})
	if err := r.speaker.Run(speaking); err != nil {
		r.cfg.Log.Error("BGP", "error", err)
	}
	wg.Wait()
}

// read reads the passwords that the peers name. One that cannot be asked for now
// stays as it was.
func (r *routes) read(ctx context.Context) error {
	r.mu.Lock()
	wanted, next := r.wanted, map[snapshot.SecretKey]string{}
	was := r.passwords
	r.mu.Unlock()
	var failed error
	for _, key := range wanted {
		secret, err := r.cfg.Clients.Kube.CoreV1().Secrets(r.cfg.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
		switch {
		case err == nil:
			next[key] = string(secret.Data[key.Key])
		case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		default:
			next[key], failed = was[key], fmt.Errorf("password of a BGP peer: %w", err)
		}
	}
	if !maps.Equal(was, next) {
		r.mu.Lock()
		r.passwords = next
		r.mu.Unlock()
		r.changed()
	}
	return failed
}

// Give makes p the plan to carry out. A withdrawal that was not carried out yet moves to
// the next order, or the engine would not wait for it.
func (r *routes) Give(number uint64, p node.Plan) {
	r.mu.Lock()
	next := routesOrder{number, p.Withdraw.Routes, p.Announce.Routes, p.Program.Snapshot}
	if r.through < r.order.number && r.order.withdraw != nil && next.withdraw == nil {
		kept := r.order.withdraw.Keep(next.announce)
		next.withdraw = &kept
	}
	// To give a router its paths may take long. The engine does not wait for that where
	// nothing is withdrawn.
	if r.through == r.order.number && next.withdraw == nil {
		r.through = number
	}
	r.order = next
	r.mu.Unlock()
	r.loop.Wake()
}

// Through returns the number of the last order whose withdrawals are done.
func (r *routes) Through() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.through
}

// Passwords returns what could be read of the Secrets that s names.
func (r *routes) Passwords(s *snapshot.Snapshot) map[snapshot.SecretKey]string {
	r.want(s)
	r.routers.want(s, r.cfg.Node)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.passwords
}

func (r *routes) step(context.Context) error {
	r.mu.Lock()
	order := r.order
	r.mu.Unlock()
	if order.withdraw != nil {
		r.sync(*order.withdraw)
	}
	r.mu.Lock()
	waited := r.through < order.number
	r.through = max(r.through, order.number)
	r.mu.Unlock()
	if waited {
		r.done()
	}
	if order.snapshot != nil {
		r.unheld.routeOn(order.snapshot)
	}
	// Before it is announced: a packet that no Service takes went from the node to the router and back,
	// 129 times with a TTL of 255.
	r.unheld.set(order.announce, time.Now())
	r.sync(order.announce)
	return nil
}

func (r *routes) sync(next bgp.Plan) {
	if len(next.Peers) > 0 || len(r.was.Peers) > 0 {
		r.syncer.Sync(next)
	}
	r.was = next
}

// want has the passwords read that the peers of s name.
func (r *routes) want(s *snapshot.Snapshot) {
	var keys []snapshot.SecretKey
	for _, p := range s.BGPPeers {
		if p.Secret != (snapshot.SecretKey{}) && !slices.Contains(keys, p.Secret) {
			keys = append(keys, p.Secret)
		}
	}
	r.mu.Lock()
	same := slices.Equal(keys, r.wanted)
	r.wanted = keys
	r.mu.Unlock()
	if !same {
		r.secrets.Wake()
	}
}

// bgpMetrics tells of the sessions when it is asked.
type bgpMetrics struct{ sessions func() []speaker.Status }

func describeMetric(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("fairlead_bgp_"+name, help, []string{"peer"}, nil)
}

var (
	descUp        = describeMetric("session_up", "1 while the session is established.")
	descSince     = describeMetric("session_since_timestamp_seconds", "When the session was established or lost.")
	descFlaps     = describeMetric("session_flaps_total", "How often the session was lost.")
	descPrefixes  = describeMetric("announced_prefixes", "Prefixes that are announced over the session.")
	descUpdates   = describeMetric("updates_total", "UPDATE messages sent to the peer, over this session and earlier ones.")
	descCrashes   = describeMetric("session_crashes_total", "How often the session's process ended by itself.")
	descBFD       = describeMetric("bfd_up", "1 while the BFD session is up.")
	descBFDFlaps  = describeMetric("bfd_flaps_total", "How often the BFD session went down after it had been up.")
	descDetection = describeMetric("bfd_detection_seconds", "How long no packet may arrive before the path counts as down.")
)

// Describe implements prometheus.Collector.
func (m *bgpMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descUp, descSince, descFlaps, descPrefixes, descUpdates, descCrashes, descBFD, descBFDFlaps, descDetection} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *bgpMetrics) Collect(out chan<- prometheus.Metric) {
	for _, st := range m.sessions() {
		gauge := func(d *prometheus.Desc, v float64) {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, st.Name)
		}
		counter := func(d *prometheus.Desc, v float64) {
			out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, st.Name)
		}
		gauge(descUp, gaugeValue(st.Established))
		gauge(descSince, float64(st.Since.Unix()))
		gauge(descPrefixes, float64(st.Prefixes))
		counter(descFlaps, float64(st.Flaps))
		counter(descUpdates, float64(st.Updates))
		counter(descCrashes, float64(st.Crashes))
		if st.BFD != nil {
			gauge(descBFD, gaugeValue(st.BFD.State.String() == "Up"))
			counter(descBFDFlaps, float64(st.BFD.Flaps))
			gauge(descDetection, st.BFD.Detection.Seconds())
		}
	}
}

func gaugeValue(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
