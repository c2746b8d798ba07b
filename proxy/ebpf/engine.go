package ebpf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/ebpf/content"
)

// Options are what an Engine is made of.
type Options struct {
	Behind proxy.Dataplane // what everything else is left to
	Off    bool            // only remove what an earlier Engine left
	Cgroup string          // of this node's pods, or one above it; "": DefaultCgroup
	Pins   string          // a folder in a bpf filesystem, made if it is missing; "": DefaultPins
	Log    *slog.Logger    // nil: the default one
}

// DefaultPins is where programs and maps are kept.
const DefaultPins = "/sys/fs/bpf/fairlead"

// limit is half of what the maps hold: a change may need old and new at once.
var limit = content.Limit{Services: 65536, Endpoints: 262144}

// Lease is how long the programs work without a Sync. Somebody else may keep the
// Dataplane behind up to date by then, an older version or one that was told to
// leave eBPF alone; they stand back from what they know of old.
const Lease = 30 * time.Second

// retryAfter is how long the programs stay off after an error.
const retryAfter = time.Minute

// Engine is a proxy.Dataplane: the one behind it, and the programs before it. An
// error of the programs takes them away, and is not an error of the Engine.
type Engine struct {
	opt      Options
	objects  *connectObjects // nil: off
	state    *content.State  // nil: not known
	config   connectSettings
	cgroup   *cgroup // that the links are of; nil before
	off      error   // why it is off
	retry    time.Time
	removed  bool                       // what an earlier one left, if told to be off
	unclosed error                      // why connected UDP sockets cannot be closed, and so are left alone
	closing  [2]map[content.Member]bool // UDP endpoints that went in this Sync, and in the last one
	said     atomic.Pointer[State]

	exclude     atomic.Pointer[[]string] // UIDs of pods; nil: not known yet
	excluded    map[uint64]bool          // ids of their cgroups
	podsMissing int                      // how many have none yet
}

var _ proxy.Dataplane = (*Engine)(nil)

// New makes an Engine. It starts and opens nothing.
func New(opt Options) *Engine {
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	opt.Cgroup, opt.Pins = cmp.Or(opt.Cgroup, DefaultCgroup), cmp.Or(opt.Pins, DefaultPins)
	e := &Engine{opt: opt}
	e.Close()
	e.say()
	return e
}

// State says what sockets come to.
type State struct {
	Wanted        bool // it is not off because it was told to be
	On            bool
	Reason        string // why it is off; or what it leaves to the Dataplane behind though it is on
	LeftFrontends int    // Frontends that have endpoints, and are left to the Dataplane behind
	// PodsMissing is how many pods that are to be excluded are not known yet: another
	// Sync has to look for them.
	PodsMissing int
}

// State tells how the last Sync left the programs. It may be called from anywhere.
func (e *Engine) State() State { return *e.said.Load() }

func (e *Engine) say() {
	s := &State{Wanted: !e.opt.Off, Reason: "not started yet"}
	switch {
	case e.off != nil:
		s.Reason = e.off.Error()
	case e.objects != nil && e.state != nil:
		*s = State{Wanted: true, On: true, LeftFrontends: e.state.LeftFrontends, PodsMissing: e.podsMissing}
		if e.unclosed != nil {
			s.Reason = "UDP sockets that are connected: " + e.unclosed.Error()
		}
	}
	e.said.Store(s)
}

// Probe implements proxy.Dataplane: it asks the one behind, which suffices.
func (e *Engine) Probe(ctx context.Context) error { return e.opt.Behind.Probe(ctx) }

// Notify implements proxy.Dataplane: it passes changed to the one behind.
func (e *Engine) Notify(changed func()) { e.opt.Behind.Notify(changed) }

// Close forgets what is open. What is pinned goes on working.
func (e *Engine) Close() {
	if e.objects != nil {
		_ = e.objects.Close()
	}
	e.objects, e.state, e.closing = nil, nil, [2]map[content.Member]bool{{}, {}}
}

// Cleanup implements proxy.Dataplane.
func (e *Engine) Cleanup(ctx context.Context) error {
	_, err := e.Remove()
	return errors.Join(err, e.opt.Behind.Cleanup(ctx))
}

// Remove detaches all programs and removes their maps, and returns how many
// programs were attached. After an error some may be left; it can be called again.
func (e *Engine) Remove() (int, error) {
	n, err := unpin(e.opt.Pins, linkPin)
	_, errMaps := unpin(e.opt.Pins, mapPin)
	e.Close()
	e.say()
	if err == nil && errMaps == nil {
		// Where nothing is mounted there is nothing to remove, and a read-only
		// file system says so before it says that there is no such name.
		if _, is := os.Lstat(e.opt.Pins); is == nil {
			errMaps = os.Remove(e.opt.Pins)
		} else if !errors.Is(is, fs.ErrNotExist) {
			errMaps = is
		}
	}
	if err = errors.Join(err, errMaps); err != nil {
		return n, fmt.Errorf("remove the eBPF programs: %w", err)
	}
	return n, nil
}

// Sync implements proxy.Dataplane. t must not be changed afterwards.
func (e *Engine) Sync(ctx context.Context, t *proxy.Table) (proxy.Change, error) {
	change, err := e.opt.Behind.Sync(ctx, t)
	switch {
	case e.opt.Off:
		return change, errors.Join(err, e.stayOff("turned off"))
	case t.Guards():
		return change, errors.Join(err, e.stayOff("another proxy forwards"))
	}
	if err != nil || e.off != nil && time.Now().Before(e.retry) {
		return change, err
	}
	defer e.say()
	more, err := e.sync(t)
	if err != nil {
		e.turnOff(err)
		return change, nil
	}
	if e.off != nil {
		e.opt.Log.Info("sockets are connected to endpoints directly again")
		e.off = nil
	}
	e.removed = false
	e.after()
	change.Added, change.Deleted = change.Added+more.Added, change.Deleted+more.Deleted
	change.Repaired = change.Repaired || more.Repaired
	return change, nil
}

// stayOff removes what an earlier Engine left, which nobody keeps up to date.
func (e *Engine) stayOff(why string) error {
	if e.removed {
		return nil
	}
	n, err := e.Remove()
	if err != nil {
		return err
	}
	if n > 0 {
		e.opt.Log.Info("detached the eBPF programs of an earlier agent", "programs", n)
	}
	e.removed, e.off = true, errors.New(why)
	e.say()
	return nil
}

// after closes the sockets to endpoints that went. A socket that was on its way
// when its endpoint went may not have been there to be found: the next Sync looks
// again.
func (e *Engine) after() {
	gone := maps.Clone(e.closing[0])
	maps.Copy(gone, e.closing[1])
	e.closing = [2]map[content.Member]bool{{}, e.closing[0]}
	if len(gone) == 0 || e.unclosed != nil {
		return
	}
	n, err := e.objects.closeSockets(gone)
	if err != nil {
		e.opt.Log.Warn("cannot look everywhere for UDP sockets to endpoints that are gone", "error", err)
	}
	if n > 0 {
		e.opt.Log.Debug("closed UDP sockets to endpoints that are gone", "sockets", n)
	}
}

// turnOff leaves everything to the Dataplane behind: what is not kept up to date
// must not be found.
func (e *Engine) turnOff(why error) {
	_, errLinks := unpin(e.opt.Pins, linkPin)
	_, errMaps := unpin(e.opt.Pins, mapPin) // nobody notes what sockets are closed meanwhile
	if err := errors.Join(errLinks, errMaps); err != nil {
		why = errors.Join(why, fmt.Errorf("detach the eBPF programs: %w", err))
	}
	if e.off == nil || e.off.Error() != why.Error() {
		e.opt.Log.Warn("sockets are not connected to endpoints directly; nftables forwards everything", "reason", why)
	}
	e.Close()
	e.off, e.retry = why, time.Now().Add(retryAfter)
}

// sync makes the maps hold t, and then attaches the programs if they are not.
func (e *Engine) sync(t *proxy.Table) (change proxy.Change, err error) {
	fresh := e.objects == nil
	if fresh {
		if err := e.load(); err != nil {
			return change, err
		}
	} else if change.Repaired, err = e.disturbed(); err != nil {
		return change, err
	}
	if e.state == nil {
		held, err := e.objects.read()
		if err != nil {
			return change, err
		}
		e.state = content.Adopt(held, t)
	}
	now, c := content.Plan(e.state, t, limit)
	if !c.Empty() {
		e.state = nil
		if err := e.apply(c); err != nil {
			return change, err
		}
	}
	e.state = now
	e.closing[0] = stale(c)
	change.Added, change.Deleted = c.Added(), c.Deleted()
	if fresh || change.Repaired {
		if err := e.attach(); err != nil {
			return change, err
		}
	}
	if err := e.excludePods(); err != nil {
		return change, err
	}
	return change, e.renew()
}

// renew lets the programs go on.
func (e *Engine) renew() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &now); err != nil {
		return fmt.Errorf("monotonic clock: %w", err)
	}
	e.config.Until = uint64(now.Nano() + Lease.Nanoseconds()) //nolint:gosec // never negative
	return e.configure()
}

// load reads or makes the maps, and loads the programs.
func (e *Engine) load() error {
	if err := os.Mkdir(e.opt.Pins, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("folder for pins: %w", err)
	}
	if err := isBPF(e.opt.Pins); err != nil {
		return err
	}
	o, err := e.open()
	if errors.Is(err, ebpf.ErrMapIncompatible) {
		// Another version's maps: it goes on with its own until the links change.
		if _, err := unpin(e.opt.Pins, mapPin); err != nil {
			return err
		}
		o, err = e.open()
	}
	if err != nil {
		return fmt.Errorf("load the eBPF programs, which need Linux 5.12, on arm64 5.18: %w", err)
	}
	e.objects, e.state = o, nil
	return e.readSettings(&e.config)
}

func (e *Engine) readSettings(to *connectSettings) error {
	if err := e.objects.Config.Lookup(uint32(0), to); err != nil {
		return fmt.Errorf("read the settings: %w", err)
	}
	return nil
}

func (e *Engine) open() (*connectObjects, error) {
	spec, err := loadConnect()
	if err != nil {
		return nil, err
	}
	for name, m := range spec.Maps {
		m.Name = mapPin + name // that is also where it is pinned
	}
	o := &connectObjects{}
	return o, spec.LoadAndAssign(o, &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: e.opt.Pins}})
}

// disturbed reports whether somebody else wrote the maps or took a link away since
// the last Sync.
func (e *Engine) disturbed() (bool, error) {
	var now connectSettings
	if err := e.readSettings(&now); err != nil {
		return false, err
	}
	if now.Generation != e.config.Generation {
		e.state = nil
		return true, nil
	}
	return !attached(e.opt.Pins) || !e.cgroup.there(), nil
}

// apply writes a Change. Programs that have read what it replaces start over if they
// are not done before it is deleted.
func (e *Engine) apply(c *content.Change) error {
	return first(
		e.raise,
		func() error { return e.objects.write(c) },
		e.raise,
		func() error { return e.objects.clear(c) },
	)
}

// raise says to others, and to the programs, that the maps are written.
func (e *Engine) raise() error {
	var now connectSettings
	if err := e.readSettings(&now); err != nil {
		return err
	}
	e.config.Generation = now.Generation + 1
	return e.configure()
}

func (e *Engine) configure() error {
	if err := e.objects.Config.Put(uint32(0), &e.config); err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	return nil
}

// attach attaches all programs to the pods' cgroup.
func (e *Engine) attach() error {
	dir, err := podCgroup(e.opt.Cgroup)
	if err != nil {
		return err
	}
	cgroup, at, err := openCgroup(dir)
	if err != nil {
		return err
	}
	defer cgroup.Close()
	if e.excluded, err = e.readExcluded(); err != nil {
		return err
	}
	e.cgroup = at
	if err := e.excludePods(); err != nil {
		return err
	}
	e.config.Connected = 0
	if e.unclosed = canClose(); e.unclosed == nil {
		e.config.Connected = 1
	}
	if err := e.renew(); err != nil {
		return err
	}
	for _, h := range e.objects.hooks() {
		if err := h.attach(cgroup, at.id, e.opt.Pins); err != nil {
			return err
		}
	}
	return nil
}
