// Package render runs the pure pipeline over files instead of a cluster: from
// manifests to the plan, the table and the announcements, as text.
package render

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	clientscheme "k8s.io/client-go/kubernetes/scheme"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
	"github.com/fairlead/fairlead/proxy"
)

// Render reads the manifests in paths (files, or folders of .yaml, .yml and
// .json) and writes what fairlead would make of them on node. node "" is the
// first Node in the files.
func Render(w io.Writer, paths []string, node string, opt allocator.Options) error {
	objects, err := read(paths)
	if err != nil {
		return err
	}
	s, notes := cluster(objects)
	if node == "" && len(s.Nodes) > 0 {
		node = s.Nodes[0].Name
	}
	if s.Node(node) == nil {
		return fmt.Errorf("node %q is not in the files", node)
	}
	plan := allocator.Decide(s, opt)
	applyRecords(s, plan)
	table := proxy.Compile(s, node, nodeport.Resolve(s.Node(node), nil, nil), proxy.Options{})
	for _, n := range notes {
		fmt.Fprintf(w, "# %s\n", n)
	}
	section(w, "plan", plan.String())
	section(w, "table of "+node, table.String())
	section(w, "announcements", announcements(s))
	return nil
}

func section(w io.Writer, title, text string) {
	if text == "" {
		text = "(nothing)\n"
	}
	fmt.Fprintf(w, "\n-- %s --\n%s", title, text)
}

// applyRecords applies the plan's records to s, as the controller would.
func applyRecords(s *snapshot.Snapshot, plan *allocator.Plan) {
	s.Addresses = nil
	for _, a := range plan.Addresses {
		s.Addresses = append(s.Addresses, &snapshot.Address{Addr: a.Addr, Pool: a.Pool, ShareKey: a.ShareKey, Holders: a.Holders})
	}
	s.Sort()
}

// announcements lists who would announce what, every node being alive, with its
// engine in sync.
func announcements(s *snapshot.Snapshot) string {
	alive, ready := map[string]bool{}, map[netip.Addr]bool{}
	for _, n := range s.Nodes {
		alive[n.Name] = true
	}
	for _, a := range s.Addresses {
		ready[a.Addr] = true
	}
	var b strings.Builder
	silent := map[string]bool{}
	for _, n := range s.Nodes {
		plan := announcer.Decide(announcer.Input{Snapshot: s, Node: n.Name, Self: s.NodeState(n.Name).Electable, Alive: alive, Ready: ready})
		for _, v := range plan.Announce {
			fmt.Fprintf(&b, "announce %s by %s on %s for %v\n", v.Addr, n.Name, strings.Join(v.Links, ","), v.Services)
		}
		for _, r := range plan.Refused {
			line := fmt.Sprintf("silent %s %s\n", r.Addr, r.Refusal)
			if r.Owner == "" && !silent[line] {
				silent[line] = true
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

// Objects reads the manifests in paths, as Render does, and completes them with
// what Kubernetes would add to Services, but without stand-ins for nodes.
func Objects(paths []string) ([]runtime.Object, error) {
	objects, err := read(paths)
	if err != nil {
		return nil, err
	}
	st := newStandIns(objects)
	known := len(st.nodes)
	return slices.DeleteFunc(st.objects(), func(o runtime.Object) bool {
		_, node := o.(*corev1.Node)
		return node && known == 0
	}), nil
}

// read decodes every document of every file. Kinds that nobody here knows are
// an error, so that a misspelt one is not passed over.
func read(paths []string) ([]runtime.Object, error) {
	files, err := expand(paths)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("kinds: %w", err)
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var out []runtime.Object
	for _, file := range files {
		objects, err := decode(file, decoder)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, objects...)
	}
	return out, nil
}

func decode(file string, decoder runtime.Decoder) ([]runtime.Object, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	docs := utilyaml.NewDocumentDecoder(f)
	defer docs.Close()
	var out []runtime.Object
	buf := make([]byte, 4<<20)
	for {
		n, err := docs.Read(buf)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if strings.TrimSpace(withoutComments(string(buf[:n]))) == "" {
			continue
		}
		obj, _, err := decoder.Decode(buf[:n], nil, nil)
		if err != nil {
			return nil, err
		}
		out = append(out, obj)
	}
}

func withoutComments(doc string) string {
	lines := slices.DeleteFunc(strings.Split(doc, "\n"), func(l string) bool {
		l = strings.TrimSpace(l)
		return strings.HasPrefix(l, "#") || l == "---"
	})
	return strings.Join(lines, "\n")
}

func expand(paths []string) ([]string, error) {
	var out []string
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			out = append(out, p)
			continue
		}
		entries, err := os.ReadDir(p)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) && !e.IsDir() {
				out = append(out, filepath.Join(p, e.Name()))
			}
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no manifests found")
	}
	return out, nil
}

// cluster makes a Snapshot of objects, with stand-ins for what Kubernetes would
// add; the notes say which.
func cluster(objects []runtime.Object) (*snapshot.Snapshot, []string) {
	st := newStandIns(objects)
	b := kube.NewBuilder()
	for _, o := range st.objects() {
		b.Set(o)
	}
	s := b.Snapshot()
	for _, n := range s.Nodes {
		if s.NodeState(n.Name) == nil {
			s.NodeStates = append(s.NodeStates, st.nodeState(n, s.Pools))
		}
	}
	s.Sort()
	return s, st.notes
}
