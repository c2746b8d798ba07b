package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// DescriptionEnv names the file of a Description in which the stories are to run.
const DescriptionEnv = "FAIRLEAD_CLUSTER"

// Description is a cluster that somebody else made, and how to reach its hosts from
// this machine. Its LAN has the addresses of the lab's, or examples/pool.yaml would
// not fit; the directory State is at the same path on every host, with the programs
// that they run.
type Description struct {
	Kubeconfig string          `json:"kubeconfig"`
	APIHost    string          `json:"apiHost"` // where agents reach the API server
	APIPort    int             `json:"apiPort"`
	Nodes      []string        `json:"nodes"` // names of the Nodes, each a key of Hosts
	Hosts      map[string]Host `json:"hosts"` // with client, router, ext and cp
	State      string          `json:"state"`
	// Agents is how many nodes run an agent, if others than Nodes do too.
	Agents int `json:"agents,omitempty"`
	// LeftOut are stories that the cluster cannot run, by the name of the test, with the reason.
	LeftOut map[string]string `json:"leftOut,omitempty"`
	// Load brings an image archive, whose path stands for {}, to every node.
	Load []string `json:"load"`
	// StopAPI and StartAPI are of the API server; APIRuns succeeds if it runs.
	StopAPI  []string `json:"stopAPI,omitempty"`
	StartAPI []string `json:"startAPI,omitempty"`
	APIRuns  []string `json:"apiRuns,omitempty"`
}

// Host is one machine or container. Its commands are run on this machine.
type Host struct {
	Enter    []string `json:"enter"` // to be followed by a command for the host
	IPv4     string   `json:"ipv4,omitempty"`
	IPv6     string   `json:"ipv6,omitempty"`
	Pods     []string `json:"pods,omitempty"` // ranges
	PowerOff []string `json:"powerOff,omitempty"`
	PowerOn  []string `json:"powerOn,omitempty"`
	Freeze   []string `json:"freeze,omitempty"`
	Thaw     []string `json:"thaw,omitempty"`
	Runs     []string `json:"runs,omitempty"` // succeeds if it has power
}

// ReadDescription reads a Description in JSON and checks that it is whole.
func ReadDescription(path string) (*Description, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var d Description
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := d.objections(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &d, nil
}

func (d *Description) objections() error {
	var errs []error
	for _, name := range append([]string{Client}, d.Nodes...) {
		h := d.Hosts[name]
		if len(h.Enter) == 0 {
			errs = append(errs, fmt.Errorf("host %s has no command to enter it", name))
		}
	}
	for name, h := range d.Hosts {
		for _, ip := range []string{h.IPv4, h.IPv6} {
			if _, err := netip.ParseAddr(ip); ip != "" && err != nil {
				errs = append(errs, fmt.Errorf("host %s: %w", name, err))
			}
		}
	}
	if len(d.Nodes) == 0 || d.Kubeconfig == "" || d.State == "" || len(d.Load) == 0 {
		errs = append(errs, errors.New("kubeconfig, nodes, state and load are needed"))
	}
	return errors.Join(errs...)
}

// Attach makes a Lab of a described cluster: what the stories do to it is done by
// the commands of the description.
func Attach(ctx context.Context, d *Description) (*Lab, error) {
	l := newLab(Options{State: d.State})
	l.described = d
	if err := l.findSource(); err != nil {
		return nil, err
	}
	l.nodes = nil
	for i, name := range d.Nodes {
		l.nodes = append(l.nodes, node{name: name, index: i + 1})
	}
	for _, dir := range []string{l.state.logs(), l.state.file("images"), l.state.file("bin")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	var err error
	l.programs, err = builder{source: l.opt.Source, cache: l.opt.Cache, progress: l.progress}.build(ctx, cluster(kubernetes("kubectl"), helm))
	return l, err
}

// Agents is how many nodes run an agent of fairlead: the Nodes, and in a described cluster
// its control plane too.
func (l *Lab) Agents() int {
	if l.described != nil && l.described.Agents > 0 {
		return l.described.Agents
	}
	return len(l.nodes)
}

// Families is how many families of addresses the pods have.
func (l *Lab) Families() int {
	if l.described == nil {
		return 2
	}
	return len(l.described.pods(l.nodes[0].name))
}

// LeftOut is the reason why the cluster cannot run a story, empty if it can.
func (l *Lab) LeftOut(story string) string {
	if l.described == nil {
		return ""
	}
	return l.described.LeftOut[story]
}

func (d *Description) enter(name string) ([]string, error) {
	h, ok := d.Hosts[name]
	if !ok {
		return nil, fmt.Errorf("no host %q: there are %s", name, strings.Join(slices.Sorted(maps.Keys(d.Hosts)), ", "))
	}
	return slices.Clone(h.Enter), nil
}

func (d *Description) lan(node string) address {
	return address{d.Hosts[node].IPv4, d.Hosts[node].IPv6}
}

func (d *Description) pods(node string) []string { return slices.Clone(d.Hosts[node].Pods) }
func (d *Description) cgroup(string) string      { return cgroupRoot }
func (d *Description) kubeconfig() string        { return d.Kubeconfig }
func (d *Description) api() (string, int)        { return d.APIHost, d.APIPort }

func (d *Description) load(ctx context.Context, archive string) error {
	args := slices.Clone(d.Load)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "{}", archive)
	}
	return d.run(ctx, "load an image", args)
}

func (d *Description) powerOff(ctx context.Context, node string) error {
	return d.run(ctx, "cut the power of "+node, d.Hosts[node].PowerOff)
}

func (d *Description) powerOn(ctx context.Context, node string) error {
	return d.run(ctx, "power on "+node, d.Hosts[node].PowerOn)
}

func (d *Description) freeze(ctx context.Context, node string, frozen bool) error {
	if frozen {
		return d.run(ctx, "freeze "+node, d.Hosts[node].Freeze)
	}
	return d.run(ctx, "thaw "+node, d.Hosts[node].Thaw)
}

func (d *Description) runs(ctx context.Context, node string) bool {
	return d.run(ctx, "ask for "+node, d.Hosts[node].Runs) == nil
}

func (d *Description) stopAPI(ctx context.Context) error {
	return d.run(ctx, "stop the API server", d.StopAPI)
}

func (d *Description) startAPI(ctx context.Context) error {
	return d.run(ctx, "start the API server", d.StartAPI)
}

func (d *Description) apiRuns(ctx context.Context) bool {
	return d.run(ctx, "ask for the API server", d.APIRuns) == nil
}

// start puts the program behind the shell that starts it: it outlives the command
// that enters the host. Its log is where the stories read it.
func (d *Description) start(ctx context.Context, node string, command []string) error {
	script := `echo $$ >/run/by-hand.pid; exec "$@" >>"$0" 2>&1`
	log := state(d.State).log(node + "-fairlead")
	return d.run(ctx, "start "+command[0], slices.Concat(d.Hosts[node].Enter, []string{"setsid", "--fork", "sh", "-c", script, log}, command))
}

func (d *Description) stop(ctx context.Context, node string) error {
	script := `[ ! -e /run/by-hand.pid ] || { kill -9 "$(cat /run/by-hand.pid)" 2>/dev/null; rm -f /run/by-hand.pid; }`
	return d.run(ctx, "stop fairlead", slices.Concat(d.Hosts[node].Enter, []string{"sh", "-c", script}))
}

// run runs a command of the description; what has none cannot be done.
func (d *Description) run(ctx context.Context, what string, command []string) error {
	if len(command) == 0 {
		return fmt.Errorf("%s: the description of this cluster has no command for it", what)
	}
	_, err := output(exec.CommandContext(ctx, command[0], command[1:]...))
	return err
}
