package program

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/bits"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/proxy/director"
)

// DefaultPins is where the program and its maps are kept.
const DefaultPins = "/sys/fs/bpf/fairlead-director"

// layout is the version of the maps. A program of another layout has maps of its own.
const layout = "maps-3"

// Lease is how long what opens a connection is directed without a Sync.
const Lease = 30 * time.Second

// Options are what a Program is made of.
type Options struct {
	Seed  director.Seed
	Marks Marks
	Pins  string // a folder in a bpf filesystem, made if it is missing; "": DefaultPins
	// UDPStream is how long conntrack keeps a UDP connection that is used both ways; 0:
	// 180 s.
	UDPStream time.Duration
	// Diversions bounds how many packets of one source this node passes on because it
	// does not have their connection: an IPv4 address, or the first 64 bits of an IPv6
	// one. The zero value is 10,000 a second and 1,000 at once.
	Diversions Rate
	// AskNftables has nftables look for connections though the program could.
	AskNftables bool
	Log         *slog.Logger // nil: the default one
}

// Marks are bits of a packet's mark, one each, that tell nftables what to do. A packet with
// both Serve and Reset is reset if conntrack finds it invalid. If it opens a connection, it
// is for an endpoint of a node that is apart.
type Marks struct {
	Serve      uint32 // an endpoint of this node serves it
	Reset      uint32 // nobody has its connection: it is reset
	Masquerade uint32 // the rules of the engine masquerade it
}

func (m Marks) check() error {
	if bits.OnesCount32(m.Serve|m.Reset|m.Masquerade) != 3 || m.Serve == 0 || m.Reset == 0 || m.Masquerade == 0 {
		return fmt.Errorf("marks %#x, %#x and %#x are not one bit each", m.Serve, m.Reset, m.Masquerade)
	}
	return nil
}

// Rate is a token bucket.
type Rate struct{ PerSecond, Burst int }

// Program is the program of this network namespace, and its maps.
type Program struct {
	opt     Options
	objects *directorMaps
	prog    *ebpf.Program
	ability Ability
	held    *content // nil: not known
	// noTables says that nftables has no tables for the program.
	noTables bool
	inner    *ebpf.MapSpec
}

// Ability is what the kernel lets the program do.
type Ability struct {
	TCX bool // a link of its own at the hook, from 6.6; otherwise it is a filter of clsact
	// Oracle says that the program looks into conntrack itself, from 5.18. Otherwise
	// nftables does.
	Oracle    bool
	WhyNot    string // why it has no oracle
	cheapTime bool
}

// Open loads the program. It adopts the maps that are pinned, or makes them. Nothing
// sees a packet before Attach.
func Open(opt Options) (*Program, error) {
	opt.Pins, opt.UDPStream = cmp.Or(opt.Pins, DefaultPins), cmp.Or(opt.UDPStream, 180*time.Second)
	opt.Diversions = cmp.Or(opt.Diversions, Rate{10000, 1000})
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	if err := opt.Marks.check(); err != nil {
		return nil, err
	}
	if err := opt.makePins(); err != nil {
		return nil, err
	}
	p, err := opt.load(filepath.Join(opt.Pins, layout))
	if errors.Is(err, ebpf.ErrMapIncompatible) {
		// A version that was never released may have left maps of this name.
		if err := os.RemoveAll(filepath.Join(opt.Pins, layout)); err != nil {
			return nil, fmt.Errorf("remove the maps of another version: %w", err)
		}
		if err := opt.makePins(); err != nil {
			return nil, err
		}
		p, err = opt.load(filepath.Join(opt.Pins, layout))
	}
	if err != nil || p.ability.Oracle {
		return p, err
	}
	return p.orAsk()
}

// orAsk makes nftables look for connections, which the program cannot. Its tables make the
// kernel load conntrack: if that was not loaded before, the program may be able now.
func (p *Program) orAsk() (*Program, error) {
	had := hasConntrack()
	if err := p.adoptAsking(); err != nil {
		p.Close()
		return nil, fmt.Errorf("%s; and %w", p.ability.WhyNot, err)
	}
	if had || p.opt.AskNftables {
		return p, nil
	}
	able, err := p.opt.load(filepath.Join(p.opt.Pins, layout))
	if err == nil && able.ability.Oracle {
		p.Close()
		return able, removeHelper()
	}
	if err == nil {
		able.Close()
	}
	return p, nil
}

func hasConntrack() bool {
	_, err := os.Stat(looseFile)
	return err == nil
}

// adoptAsking makes nftables look for connections, for what the maps hold.
func (p *Program) adoptAsking() (err error) {
	if p.held, err = p.objects.read(); err != nil {
		return fmt.Errorf("read the director's maps: %w", err)
	}
	return p.help(p.held.nodes, p.held)
}

// help makes nftables do its part: it looks for connections if the program cannot, and knows
// the nodes then; it knows the endpoints of nodes that are apart; and it has clients send
// segments that get to other subnets.
func (p *Program) help(nodes map[uint32]directorNode, c *content) error {
	h := helper{marks: p.opt.Marks, seed: p.opt.Seed, sources: p.opt.Diversions, asked: !p.ability.Oracle, hops: nodes, content: c}
	if h.asked || len(c.apart) > 0 || c.segment(familyIPv4) > 0 || c.segment(familyIPv6) > 0 {
		p.noTables = false
		return h.write()
	}
	if p.noTables { // to look for what is there, the kernel lists what all others have
		return nil
	}
	err := removeHelper()
	p.noTables = err == nil
	return err
}

// Probe reports what the kernel lets the program do. It returns an error where it cannot
// load at all. It leaves nothing behind.
func Probe() (Ability, error) {
	opt := Options{Marks: Marks{1, 2, 4}, UDPStream: time.Second, Diversions: Rate{1, 1}}
	p, err := opt.load("")
	if err != nil {
		return Ability{}, err
	}
	defer p.Close()
	return p.ability, nil
}

func (o *Options) makePins() error {
	for _, dir := range []string{o.Pins, filepath.Join(o.Pins, layout)} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("folder for pins: %w", err)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(o.Pins, &st); err != nil {
		return fmt.Errorf("%s: %w", o.Pins, err)
	}
	if st.Type != unix.BPF_FS_MAGIC {
		return fmt.Errorf("%s is not in a bpf filesystem: mount one there", o.Pins)
	}
	return nil
}

// load loads the program with the oracle if the kernel has it, and without otherwise.
func (o *Options) load(pins string) (*Program, error) {
	for name, helper := range map[string]asm.BuiltinFunc{"bpf_redirect_neigh": asm.FnRedirectNeigh, "bpf_skb_pull_data": asm.FnSkbPullData, "bpf_skb_adjust_room": asm.FnSkbAdjustRoom} {
		if err := features.HaveProgramHelper(ebpf.SchedCLS, helper); err != nil {
			return nil, fmt.Errorf("the kernel has no %s, which Linux 5.10 has: %w", name, err)
		}
	}
	a := Ability{TCX: hasTCX(), cheapTime: features.HaveProgramHelper(ebpf.SchedCLS, asm.FnKtimeGetCoarseNs) == nil}
	if o.AskNftables {
		a.WhyNot = "the program is not to look for connections itself"
		return o.loadWith(a, pins)
	}
	a.Oracle = true
	p, err := o.loadWith(a, pins)
	if err == nil || errors.Is(err, ebpf.ErrMapIncompatible) {
		return p, err
	}
	a.Oracle, a.WhyNot = false, "the kernel has no conntrack functions for eBPF, which Linux 5.18 has: "+strings.TrimSpace(err.Error())
	return o.loadWith(a, pins)
}

func (o *Options) loadWith(a Ability, pins string) (*Program, error) {
	spec, err := loadDirector()
	if err != nil {
		return nil, err
	}
	use, other := "with_oracle", "without_oracle"
	if !a.Oracle {
		use, other = other, use
	}
	delete(spec.Programs, other)
	for name, m := range spec.Maps {
		if pins != "" && !strings.HasPrefix(name, ".") {
			m.Pinning = ebpf.PinByName
		}
	}
	if err := o.setConstants(spec, a); err != nil {
		return nil, err
	}
	objects := &directorMaps{}
	loaded, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		Maps: ebpf.MapOptions{PinPath: pins}, Programs: ebpf.ProgramOptions{ExtraRelocationTargets: conntrackTypes()},
	})
	if err != nil {
		return nil, fmt.Errorf("load the director's program: %w", err)
	}
	defer loaded.Close()
	if err := loaded.Assign(objects); err != nil {
		return nil, err
	}
	p := &Program{opt: *o, objects: objects, prog: loaded.DetachProgram(use), ability: a, inner: spec.Maps["tables"].InnerMap}
	return p, nil
}

// conntrackTypes are the types of conntrack where it is a module. Its functions are found
// without them, but not what they return.
func conntrackTypes() []*btf.Spec {
	const module = "nf_conntrack"
	if _, err := os.Stat("/sys/kernel/btf/" + module); err != nil {
		return nil // it is part of the kernel, or not there: all types of the kernel need not be read
	}
	spec, err := btf.LoadKernelModuleSpec(module)
	if err != nil {
		return nil // loading the program says what it lacks
	}
	return []*btf.Spec{spec}
}

func (o *Options) setConstants(spec *ebpf.CollectionSpec, a Ability) error {
	earn := uint64(time.Second) / uint64(o.Diversions.PerSecond)
	for name, value := range map[string]any{
		"seed": uint64(o.Seed), "mark_serve": o.Marks.Serve, "mark_reset": o.Marks.Reset,
		"earn": earn, "burst": earn * uint64(o.Diversions.Burst),
		"stream": uint32(o.UDPStream / time.Second), "coarse": a.cheapTime,
	} {
		v, ok := spec.Variables[name]
		if !ok {
			return fmt.Errorf("the program has no constant %s", name)
		}
		if err := v.Set(value); err != nil {
			return fmt.Errorf("constant %s: %w", name, err)
		}
	}
	return nil
}

// Ability is what the kernel lets this program do.
func (p *Program) Ability() Ability { return p.ability }

// Without says what the program does without, "" if nothing.
func (p *Program) Without() string {
	if p.ability.Oracle {
		return ""
	}
	return "nftables looks for connections: " + p.ability.WhyNot
}

// Close forgets what is open. What is attached goes on working.
func (p *Program) Close() {
	_ = p.objects.Close()
	_ = p.prog.Close()
}

// Held returns the frontends that the maps hold, without their slots.
func (p *Program) Held() ([]Frontend, error) {
	var out []Frontend
	var key directorKey
	var value directorFrontend
	each := p.objects.Frontends.Iterate()
	for each.Next(&key, &value) {
		out = append(out, heldFrontend(key, value))
	}
	if err := each.Err(); err != nil {
		return nil, fmt.Errorf("read the director's frontends: %w", err)
	}
	return out, nil
}

// Sync makes the maps hold s, and lets the program go on for Lease. It calls nftables,
// if that is not nil, when the maps no longer have what goes and do not yet have what
// comes. So no packet is left to nftables for an endpoint that it does not know.
func (p *Program) Sync(s *State, nftables func() error) error {
	if p.held == nil {
		held, err := p.objects.read()
		if err != nil {
			return fmt.Errorf("read the director's maps: %w", err)
		}
		p.held = held
	}
	want, err := p.held.next(s, p.opt.Seed)
	if err != nil {
		return err
	}
	have := p.held
	p.held = nil // until all is written
	going := *have
	going.frontends = want.going(have)
	if err := p.objects.putFrontends(have.frontends, going.frontends); err != nil {
		return err
	}
	if nftables != nil {
		if err := nftables(); err != nil {
			return err
		}
	}
	hops := maps.Clone(have.nodes) // packets that were asked about may still be for them
	maps.Copy(hops, want.nodes)
	if err := p.help(hops, want); err != nil {
		return err
	}
	if s.Hold > 0 {
		// Before the tables do without a node that has gone: until old ones are removed, the
		// kernel waits for a tenth of a second, in which walks would end with a reset.
		if err := p.configure(want, s.Hold); err != nil {
			return err
		}
	}
	if err := p.write(&going, want); err != nil {
		return fmt.Errorf("write the director's maps: %w", err)
	}
	want.dropSlots()
	p.held = want
	return p.configure(want, s.Hold)
}

// configure says who this node is and who has gone, and renews the lease.
func (p *Program) configure(want *content, hold time.Duration) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("monotonic clock: %w", err)
	}
	c := directorSettings{Me: want.me, Until: uint64(now.Nano() + Lease.Nanoseconds()), Ranged: uint32(len(want.ranges)), Far: want.far()}
	for i := range c.Gone {
		c.Gone[i] = nobody
		if len(want.gone) > 0 {
			c.Gone[i] = want.gone[i%len(want.gone)]
		}
	}
	if hold > 0 {
		c.Hold = uint64(now.Nano() + hold.Nanoseconds())
	}
	if err := p.objects.Config.Put(uint32(0), &c); err != nil {
		return fmt.Errorf("write the director's settings: %w", err)
	}
	return nil
}
