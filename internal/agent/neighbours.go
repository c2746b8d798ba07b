package agent

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/saved"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// mostNeighbours bounds how many MACs an agent keeps: a cluster has at most a few
// thousand nodes, each with a few links.
const mostNeighbours = 1 << 16

// neighbours remembers the MACs of the cluster's nodes, by node and sorted. A host that
// answers for an address with one of them is never foreign. The agents tell them to each
// other; the file is for an agent that starts while it hears nobody.
type neighbours struct {
	dir     string // "": nothing is kept on disk
	log     *slog.Logger
	changed func() // Keep has something to do

	// Of the decision alone.
	macs    map[string][]string
	all     []string           // of all nodes, sorted; replaced, never changed
	members []announcer.Member // that were learnt last
	nodes   []*snapshot.Node   // of the cluster, then

	unkept atomic.Pointer[map[string][]string] // nil: the file says what is known
}

// load reads what the last agent kept. One of version 0.1 kept no file of its own, but
// the NodeStates in its snapshot, which may be nil, have the MACs too.
func (n *neighbours) load(last *saved.State) {
	n.macs = map[string][]string{}
	if last != nil {
		for _, st := range last.Snapshot.NodeStates {
			n.macs[st.Node] = macsOf(st.Links)
		}
	}
	if n.dir != "" {
		text, err := os.ReadFile(neighboursPath(n.dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			n.log.Warn("cannot read the saved MAC addresses of the nodes", "error", err)
		}
		maps.Copy(n.macs, parseNeighbours(text))
	}
	n.all = allMACs(n.macs)
}

// Learn takes in what the agents of v say, and returns all MACs that are known, sorted.
// Those of a silent node stay while the cluster s has the node.
func (n *neighbours) Learn(v announcer.View, s *snapshot.Snapshot) []string {
	if diff.Same(v.Members, n.members) && diff.Same(s.Nodes, n.nodes) {
		return n.all
	}
	n.members, n.nodes = v.Members, s.Nodes
	if next := learn(n.macs, v, s); !maps.EqualFunc(next, n.macs, slices.Equal) {
		n.macs, n.all = next, allMACs(next)
		n.unkept.Store(&next)
		n.changed()
	}
	return n.all
}

// Keep writes the file if something changed. It may be called beside Learn.
func (n *neighbours) Keep() error {
	macs := n.unkept.Swap(nil)
	if macs == nil || n.dir == "" {
		return nil
	}
	if err := replaceFile(neighboursPath(n.dir), formatNeighbours(*macs)); err != nil {
		// Unless Learn has left newer ones by now.
		n.unkept.CompareAndSwap(nil, macs)
		return fmt.Errorf("keep the nodes' MAC addresses: %w", err)
	}
	return nil
}

// learn returns was with what the agents of v say, without the nodes that neither v nor
// the cluster has. An s without any node is one that is not known.
func learn(was map[string][]string, v announcer.View, s *snapshot.Snapshot) map[string][]string {
	next := maps.Clone(was)
	maps.DeleteFunc(next, func(node string, _ []string) bool {
		return len(s.Nodes) > 0 && s.Node(node) == nil && v.Member(node) == nil
	})
	for _, m := range v.Members {
		if m.Report == nil || m.Node == v.Node {
			continue
		}
		// A node whose links are down for a moment still owns their MACs.
		if macs := macsOf(m.Report.Links); len(macs) > 0 {
			next[m.Node] = macs
		}
	}
	return next
}

// macsOf returns the MACs of links, sorted.
func macsOf(links []snapshot.Link) []string {
	var out []string
	for _, l := range links {
		if l.MAC != "" {
			out = append(out, l.MAC)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func allMACs(by map[string][]string) []string {
	var out []string
	for _, macs := range by {
		out = append(out, macs...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func neighboursPath(dir string) string { return filepath.Join(dir, "neighbours") }

// formatNeighbours writes a line for each node: its name and its MACs.
func formatNeighbours(by map[string][]string) []byte {
	var b bytes.Buffer
	for _, node := range slices.Sorted(maps.Keys(by)) {
		fmt.Fprintln(&b, node, strings.Join(by[node], " "))
	}
	return b.Bytes()
}

// parseNeighbours reads what formatNeighbours wrote. It passes over what is not a MAC.
func parseNeighbours(text []byte) map[string][]string {
	out, count := map[string][]string{}, 0
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		for i, w := range words {
			if _, err := net.ParseMAC(w); i > 0 && err == nil && count < mostNeighbours {
				out[words[0]] = append(out[words[0]], w)
				count++
			}
		}
	}
	return out
}

// replaceFile writes data to path, whole or not at all.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-*.new")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
