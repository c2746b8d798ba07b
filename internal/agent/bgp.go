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

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/announcer/bgp/speaker"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// retreatFor is how long routers have to find other ways before a drained node
// withdraws its paths.
const retreatFor = 5 * time.Second

// passwordsEvery is how often the Secrets of BGPPeers are read.
const passwordsEvery = 15 * time.Second

// routes announces over BGP. Sync is the agent loop's.
type routes struct {
	cfg     Config
	wake    func()      // the agent's loop
	forGood func() bool // whether a stop is no restart
	speaker *speaker.Speaker
	secrets *reconcile.Loop

	plan     bgp.Plan  // the last that was acted on
	draining time.Time // since when; zero: not

	mu        sync.Mutex
	wanted    []snapshot.SecretKey
	passwords map[snapshot.SecretKey]string
}

func newRoutes(cfg Config, wake, report func(), forGood func() bool) *routes {
	r := &routes{
		cfg: cfg, wake: wake, forGood: forGood, speaker: speaker.New(cfg.Log, report, sessionProcess), secrets: reconcile.New("BGP passwords", cfg.Log),
		passwords: map[snapshot.SecretKey]string{},
	}
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

// Run reads passwords and watches the paths to the peers until ctx ends. The
// sessions are left to end with the process, without a NOTIFICATION, since a stop
// is a restart; or everything is withdrawn if it is none.
func (r *routes) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { r.secrets.Run(ctx, r.read) })
	speaking, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	wg.Go(func() {
		<-ctx.Done()
		if r.forGood() {
			r.speaker.Close()
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
		r.wake()
	}
	return failed
}

// decide is the plan for in, whose engine holds in.Ready.
func (r *routes) decide(in announcer.Input, now time.Time) bgp.Plan {
	switch {
	case !in.Self.Draining:
		r.draining = time.Time{}
	case r.draining.IsZero():
		r.draining = now
		time.AfterFunc(retreatFor, r.wake)
	}
	ready := in.Ready
	if !in.Self.InSync {
		ready = nil
	}
	r.mu.Lock()
	passwords := r.passwords
	r.mu.Unlock()
	return bgp.Decide(bgp.Input{
		Snapshot: in.Snapshot, Node: in.Node, Self: in.Self, Ready: ready, Passwords: passwords,
		Retreating: in.Self.Draining && now.Sub(r.draining) < retreatFor,
	})
}

// withdraw gives up, before the engine changes, what the next plan does not have.
func (r *routes) withdraw(in announcer.Input) {
	if len(r.plan.Peers) == 0 {
		return
	}
	r.sync(r.plan.Keep(r.decide(in, time.Now())))
}

// announce makes the routers hear what this node's engine holds now.
func (r *routes) announce(in announcer.Input) bgp.Plan {
	r.want(in.Snapshot)
	r.sync(r.decide(in, time.Now()))
	return r.plan
}

func (r *routes) sync(next bgp.Plan) {
	if len(next.Peers) > 0 || len(r.plan.Peers) > 0 {
		r.speaker.Sync(next)
	}
	r.plan = next
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
	descUpdates   = describeMetric("updates_total", "UPDATE messages sent over the session and those before it.")
	descCrashes   = describeMetric("session_crashes_total", "How often the session's process ended by itself.")
	descBFD       = describeMetric("bfd_up", "1 while the BFD session is up.")
	descBFDFlaps  = describeMetric("bfd_flaps_total", "How often the BFD session went down after it had been up.")
	descDetection = describeMetric("bfd_detection_seconds", "After how long without a packet the path counts as down.")
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
		gauge(descUp, one(st.Established))
		gauge(descSince, float64(st.Since.Unix()))
		gauge(descPrefixes, float64(st.Prefixes))
		counter(descFlaps, float64(st.Flaps))
		counter(descUpdates, float64(st.Updates))
		counter(descCrashes, float64(st.Crashes))
		if st.BFD != nil {
			gauge(descBFD, one(st.BFD.State.String() == "Up"))
			counter(descBFDFlaps, float64(st.BFD.Flaps))
			gauge(descDetection, st.BFD.Detection.Seconds())
		}
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
