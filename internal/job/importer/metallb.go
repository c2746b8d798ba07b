package importer

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// MetalLB reads MetalLB's configuration and writes fairlead's: pools first, then
// peers, then Announcements. What has no equal is a comment before the object
// that lacks it. It returns how many such comments there are.
func MetalLB(w io.Writer, r io.Reader) (comments int, err error) {
	c, err := read(r)
	if err != nil {
		return 0, err
	}
	m := &maker{config: c, peerNames: map[string][]string{}}
	for _, p := range c.pools {
		m.pool(p)
	}
	for _, p := range c.peers {
		m.peer(p)
	}
	for _, a := range c.l2 {
		m.l2(a)
	}
	for _, a := range c.bgp {
		m.bgp(a)
	}
	for _, text := range c.other {
		m.note(text)
	}
	if m.err != nil {
		return 0, m.err
	}
	_, err = io.WriteString(w, m.out.String())
	return m.comments, err
}

// maker writes manifests.
type maker struct {
	*config
	peerNames map[string][]string // ours, by MetalLB's
	out       strings.Builder
	comments  int
	err       error
}

// put writes one object, after its comments: notes, and the fields of the object
// id of MetalLB that have no equal.
func (m *maker) put(obj any, id string, notes ...string) {
	text, err := manifest(obj)
	if err != nil {
		m.err = err
		return
	}
	m.out.WriteString("---\n")
	for _, n := range notes {
		m.note(n)
	}
	for _, field := range m.unread[id] {
		m.note(field + " has no equal")
	}
	m.out.Write(text)
}

func (m *maker) note(text string) {
	m.comments++
	fmt.Fprintf(&m.out, "# %s\n", strings.ReplaceAll(text, "\n", " "))
}

// unique is the name of the nth object that one of MetalLB's becomes.
func (m *maker) unique(name string, n int) string {
	if n == 1 {
		return name
	}
	return fmt.Sprintf("%s-%d", name, n)
}

func typeOf(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: kind}
}

// manifest is the YAML of an object without the fields that nobody writes.
func manifest(obj any) ([]byte, error) {
	data, err := json.Marshal(obj)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, err
	}
	delete(fields, "status")
	if meta, ok := fields["metadata"].(map[string]any); ok {
		delete(meta, "creationTimestamp")
	}
	return yaml.Marshal(fields)
}
