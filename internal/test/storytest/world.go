package storytest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// World is a cluster in memory, made and changed by lines. A thing that is
// named again is edited: attributes that are not named stay, NAME= clears one.
//
//	node NAME [ips=A,B] [pods=CIDRS] [zone=Z] [labels=K=V] [notready] [nonetwork] [deleting]
//	agent NODE [links=eth0:CIDR+CIDR,eth1:CIDR] [outofsync] [draining] [dead] [lacks=A,B]
//	pool NAME RANGES [labels=K=V]
//	address A [holder=NS/NAME[:UID],...] [pool=P] [conflict=MAC] [deleting]
//	announcement NAME [pool=K=V] [service=K=V] [node=K=V] [prefer=K=V:N+K=V:N] [interfaces=A,B] [bgp]
//	                  [peers=A,B] [localpref=N] [communities=C,C] [large=C,C] [length=N] [length6=N]
//	bgppeer NAME ADDR as=PEER/LOCAL [port=N] [node=K=V] [hold=T] [keepalive=T] [secret=S] [source=A] [multihop=TTL] [restart=T]
//	             [bfd=TX/RXxMULT] [age=T]
//	servicecidr NAME CIDRS
//	service NS/NAME [ip=A,B] [ports=[NAME:]PROTO/PORT[/NODEPORT],...] [type=T] [external=Local] [internal=Local]
//	                [affinity=3h] [ranges=CIDRS] [externalips=A,B] [status=A,B@Proxy] [labels=K=V] [uid=U] [headless]
//	endpoint NS/NAME IP:PORT [port=NAME] [proto=P] [node=N] [zones=Z] [nodes=N] [unready] [unserving] [terminating]
//	delete KIND NAME [IP:PORT]
//
// What an agent says of more than its links is in said.
//
// An agent's dead and lacks are not in any Snapshot: Dead and Lacks tell them.
// A Service's UID is its NAME unless said otherwise.
type World struct {
	last   []*snapshot.Service // of the last Snapshot
	things map[thing]map[string]string
}

// thing is what a line names: an endpoint by Service and address.
type thing struct {
	kind       int // in kinds
	name, more string
}

func (t thing) compare(o thing) int {
	return cmp.Or(cmp.Compare(t.kind, o.kind), cmp.Compare(t.name, o.name), cmp.Compare(t.more, o.more))
}

// NewWorld returns an empty cluster.
func NewWorld() *World { return &World{things: map[thing]map[string]string{}} }

// kind makes a thing of one kind out of its attributes.
type kind struct {
	name   string
	second string // what the second word is, if it is no attribute
	build  func(*snapshot.Snapshot, string, *attrs)
}

// kinds are in the order in which they are made.
var kinds = slices.Concat([]kind{
	{"node", "", node},
	{"agent", "", agent},
	{"pool", "ranges", pool},
	{"address", "", address},
	{"announcement", "", announcement},
	{"bgppeer", "addr", bgpPeer},
	{"servicecidr", "cidrs", serviceCIDR},
	{"service", "", service},
	{"endpoint", "addr", endpoint},
}, said)

// Do runs every line of text. Blank lines and lines that begin with # do nothing.
func (w *World) Do(text string) error {
	for line := range strings.Lines(text) {
		ws := words(line)
		if len(ws) == 0 || strings.HasPrefix(ws[0], "#") {
			continue
		}
		if err := w.do(ws); err != nil {
			return fmt.Errorf("%s: %w", strings.TrimSpace(line), err)
		}
	}
	_, err := w.Snapshot()
	return err
}

func (w *World) do(ws []string) error {
	if ws[0] == "delete" {
		return w.remove(ws[1:])
	}
	at := slices.IndexFunc(kinds, func(k kind) bool { return k.name == ws[0] })
	if at < 0 || len(ws) < 2 {
		return errors.New("want a kind and a name")
	}
	id, rest, given := thing{kind: at, name: ws[1]}, ws[2:], map[string]string{}
	if name := kinds[at].second; name != "" && len(rest) > 0 && !strings.Contains(rest[0], "=") {
		given[name], rest = rest[0], rest[1:]
	}
	for _, word := range rest {
		name, value, ok := strings.Cut(word, "=")
		if !ok {
			value = "true"
		}
		given[name] = value
	}
	if ws[0] == "endpoint" {
		id.more = given["addr"] + given["port"] + given["proto"]
	}
	if w.things[id] == nil {
		w.things[id] = map[string]string{}
	}
	maps.Copy(w.things[id], given)
	return nil
}

func (w *World) remove(ws []string) error {
	found := 0
	for id := range w.things {
		if len(ws) >= 2 && kinds[id.kind].name == ws[0] && id.name == ws[1] && (len(ws) == 2 || strings.HasPrefix(id.more, ws[2])) {
			delete(w.things, id)
			found++
		}
	}
	if found == 0 {
		return fmt.Errorf("there is no %s", strings.Join(ws, " "))
	}
	return nil
}

// Snapshot returns what a decision sees, sorted. A Service that did not change
// since the last one keeps its pointer.
func (w *World) Snapshot() (*snapshot.Snapshot, error) {
	s := &snapshot.Snapshot{}
	for _, id := range slices.SortedFunc(maps.Keys(w.things), thing.compare) {
		a := &attrs{values: w.things[id], read: map[string]bool{}}
		kinds[id.kind].build(s, id.name, a)
		if err := a.done(); err != nil {
			return nil, fmt.Errorf("%s %s: %w", kinds[id.kind].name, id.name, err)
		}
	}
	s.Sort()
	for i, svc := range s.Services {
		for _, old := range w.last {
			if reflect.DeepEqual(old, svc) {
				s.Services[i] = old
			}
		}
	}
	w.last = s.Services
	return s, nil
}

// Alive returns the nodes whose agents are not dead.
func (w *World) Alive() map[string]bool {
	out := map[string]bool{}
	w.agents(func(node string, a *attrs) { out[node] = !a.flag("dead") })
	return out
}

// Lacks returns the addresses that node's engine does not hold yet.
func (w *World) Lacks(name string) []netip.Addr {
	var out []netip.Addr
	w.agents(func(node string, a *attrs) {
		if node == name {
			out = a.addrs("lacks")
		}
	})
	return out
}

func (w *World) agents(do func(string, *attrs)) {
	for id, values := range w.things {
		if kinds[id.kind].name == "agent" {
			do(id.name, &attrs{values: values, read: map[string]bool{}})
		}
	}
}
