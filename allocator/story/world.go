package story

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// World is a cluster in memory that commands change and Plans are applied to.
// Things are created in the order of their first lines, a second apart.
type World struct {
	Opt   allocator.Options
	clock time.Time
	uids  int

	services  map[snapshot.Ref]*snapshot.Service
	attrs     map[snapshot.Ref]fields // all attributes that a Service got so far
	pools     map[string]*snapshot.Pool
	addresses map[netip.Addr]*snapshot.Address
	nodes     map[string]*snapshot.Node
	spaces    map[string]*snapshot.Namespace
	cidrs     map[string]*snapshot.ServiceCIDR
}

// NewWorld returns an empty cluster in which Services without a class are ours.
func NewWorld() *World {
	return &World{
		Opt:       allocator.Options{Class: "fairlead.io/lb", DefaultClass: true},
		clock:     time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		services:  map[snapshot.Ref]*snapshot.Service{},
		attrs:     map[snapshot.Ref]fields{},
		pools:     map[string]*snapshot.Pool{},
		addresses: map[netip.Addr]*snapshot.Address{},
		nodes:     map[string]*snapshot.Node{},
		spaces:    map[string]*snapshot.Namespace{},
		cidrs:     map[string]*snapshot.ServiceCIDR{},
	}
}

// Snapshot returns what a decision sees, sorted.
func (w *World) Snapshot() *snapshot.Snapshot {
	s := &snapshot.Snapshot{
		Services:     slices.Collect(maps.Values(w.services)),
		Pools:        slices.Collect(maps.Values(w.pools)),
		Addresses:    slices.Collect(maps.Values(w.addresses)),
		Nodes:        slices.Collect(maps.Values(w.nodes)),
		Namespaces:   slices.Collect(maps.Values(w.spaces)),
		ServiceCIDRs: slices.Collect(maps.Values(w.cidrs)),
	}
	s.Sort()
	return s
}

// Apply makes the Plan true: records and statuses.
func (w *World) Apply(p *allocator.Plan) {
	old := w.addresses
	w.addresses = map[netip.Addr]*snapshot.Address{}
	for _, a := range p.Addresses {
		rec := &snapshot.Address{Addr: a.Addr, Pool: a.Pool, ShareKey: a.ShareKey, Backend: a.Backend, Holders: a.Holders}
		if o := old[a.Addr]; o != nil {
			rec.UID, rec.Conflict = o.UID, o.Conflict
		}
		w.addresses[a.Addr] = rec
	}
	for _, o := range p.Services {
		svc := *w.services[o.Ref]
		svc.Ingress = nil
		for _, a := range o.Addrs {
			svc.Ingress = append(svc.Ingress, snapshot.Ingress{IP: a})
		}
		w.services[o.Ref] = &svc
	}
}

// Do runs one command. Blank lines and lines that begin with # do nothing.
//
//	pool NAME RANGES [auto=false] [avoidBuggyIPs] [disabled] [priority=N] [namespaces=A,B] [nsselector=K=V] [selector=K=V] [bad=TEXT] [created=N]
//	service NS/NAME [ATTRIBUTES]      creates, or edits: what is not named stays; "" clears
//	recreate NS/NAME                  deletes and creates again, with the same attributes
//	delete KIND NAME                  service, pool, address, node, ns, servicecidr
//	address ADDR [pool=P] [key=K] [holder=NS/NAME/UID] [deleting]
//	node NAME ADDRS [pods=CIDRS]
//	ns NAME [K=V ...]
//	servicecidr NAME CIDRS
//	option [class=C] [defaultClass=false] [reserved=CIDRS]
//	restart                           nothing: a decision remembers nothing
func (w *World) Do(line string) error {
	words, err := split(line)
	if err != nil || len(words) == 0 {
		return err
	}
	w.clock = w.clock.Add(time.Second)
	verb, args := words[0], words[1:]
	do, ok := map[string]func([]string) error{
		"pool": w.pool, "service": w.service, "recreate": w.recreate, "delete": w.remove, "address": w.address,
		"node": w.node, "ns": w.namespace, "servicecidr": w.serviceCIDR, "option": w.option,
		"restart": func([]string) error { return nil },
	}[verb]
	if !ok {
		return fmt.Errorf("no command %q", verb)
	}
	if err := do(args); err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	return nil
}

// split cuts a line at spaces outside of double quotes and removes the quotes.
func split(line string) ([]string, error) {
	var words []string
	line = strings.TrimSpace(line)
	for line != "" && line[0] != '#' {
		end, quoted := 0, false
		for end < len(line) && (quoted || line[end] != ' ') {
			if line[end] == '"' && line[max(end-1, 0)] != '\\' {
				quoted = !quoted
			}
			end++
		}
		word := line[:end]
		if at := strings.IndexByte(word, '"'); at >= 0 {
			text, err := strconv.Unquote(word[at:])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", word, err)
			}
			word = word[:at] + text
		}
		words = append(words, word)
		line = strings.TrimLeft(line[end:], " ")
	}
	return words, nil
}

// fields is the NAME=VALUE words of a command; a word alone has the value "true".
type fields map[string]string

func fieldsOf(words []string) fields {
	f := fields{}
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if !ok {
			value = "true"
		}
		f[name] = value
	}
	return f
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func labels(text string) map[string]string {
	if text == "" {
		return nil
	}
	out := map[string]string{}
	for _, kv := range list(text) {
		k, v, _ := strings.Cut(kv, "=")
		out[k] = v
	}
	return out
}

func selector(f fields, name string) *snapshot.Selector {
	text, ok := f[name]
	if !ok {
		return nil
	}
	return &snapshot.Selector{MatchLabels: labels(text)}
}

func addrs(text string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, a := range list(text) {
		addr, err := netip.ParseAddr(a)
		if err != nil {
			return nil, err
		}
		out = append(out, addr)
	}
	return out, nil
}

func prefixes(text string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, p := range list(text) {
		prefix, err := netip.ParsePrefix(p)
		if err != nil {
			return nil, err
		}
		out = append(out, prefix)
	}
	return out, nil
}

// ranges reads prefixes and FROM-TO.
func ranges(text string) ([]netipx.IPRange, error) {
	var out []netipx.IPRange
	for _, r := range list(text) {
		if p, err := netip.ParsePrefix(r); err == nil {
			out = append(out, netipx.RangeOfPrefix(p))
			continue
		}
		rg, err := netipx.ParseIPRange(r)
		if err != nil {
			return nil, err
		}
		out = append(out, rg)
	}
	return out, nil
}
