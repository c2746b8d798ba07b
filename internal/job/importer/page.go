package importer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// Object is one object of Kubernetes, as JSON has it.
type Object = map[string]any

// From is the conversion of one load balancer's configuration. It writes pools first,
// then peers, then Announcements. What has no equal is a comment before the object
// that lacks it. It returns how many such comments there are.
type From func(w io.Writer, objects []Object) (comments int, err error)

// page is the text that is written.
type page struct {
	out      strings.Builder
	unread   map[string][]string // fields without equal, by KIND/NAME
	other    []string            // what is said of objects that are passed over
	comments int
	err      error
}

func newPage() page { return page{unread: map[string][]string{}} }

// write writes everything, with the objects that were passed over at the end.
func (p *page) write(w io.Writer) (comments int, err error) {
	for _, text := range p.other {
		p.note(text)
	}
	if p.err != nil {
		return 0, p.err
	}
	_, err = io.WriteString(w, p.out.String())
	return p.comments, err
}

// put writes one object, after its comments: notes, and the fields of the object id of
// the other load balancer that have no equal.
func (p *page) put(obj any, id string, notes ...string) {
	text, err := manifest(obj)
	if err != nil {
		p.err = err
		return
	}
	p.out.WriteString("---\n")
	for _, n := range notes {
		p.note(n)
	}
	for _, field := range p.unread[id] {
		p.note(field + " has no equal")
	}
	p.unread[id] = nil // said once
	p.out.Write(text)
}

func (p *page) note(text string) {
	p.comments++
	fmt.Fprintf(&p.out, "# %s\n", strings.ReplaceAll(text, "\n", " "))
}

// head is what every object has.
func head(o Object) (group, kind, id string, m metav1.ObjectMeta, err error) {
	h, err := read[struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
	}](o)
	group, _, versioned := strings.Cut(h.APIVersion, "/")
	if !versioned {
		group = ""
	}
	return group, h.Kind, h.Kind + "/" + h.Name, h.ObjectMeta, err
}

// source is a load balancer whose objects are of one API group.
type source struct {
	name, group string
	annotations map[string]string // of Services: see page.service; nil: Services are not looked at
}

// add takes o in by addKind if it is of the source's group. What else there is, is said.
func (p *page) add(o Object, from source, addKind func(kind, id string, o Object) error) error {
	group, kind, id, meta, err := head(o)
	switch {
	case err != nil:
	case group == "" && kind == "Service" && from.annotations != nil:
		p.service(meta, from.annotations)
	case group != from.group:
		p.other = append(p.other, id+" is not "+from.name+"'s")
	default:
		err = addKind(kind, id, o)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	return nil
}

// read reads an object as a T.
func read[T any](obj Object) (out T, err error) {
	data, err := json.Marshal(obj)
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	return out, err
}

// decode reads an object of one kind, and notes under id which fields of its spec that
// kind does not have here.
func decode[T any](p *page, id string, obj Object, take func(T)) error {
	o, err := read[T](obj)
	if err != nil {
		return err
	}
	take(o)
	var all, known map[string]any
	data, errAll := json.Marshal(obj)
	text, errKnown := json.Marshal(o)
	if err := errors.Join(errAll, errKnown, json.Unmarshal(data, &all), json.Unmarshal(text, &known)); err != nil {
		return err
	}
	p.unread[id] = missing("spec.", all["spec"], known["spec"])
	return nil
}

// service notes what to write at a Service that has annotations of the other load
// balancer, by the annotation of fairlead's that says the same.
func (p *page) service(m metav1.ObjectMeta, equal map[string]string) {
	for _, theirs := range slices.Sorted(maps.Keys(equal)) {
		if value, ok := m.Annotations[theirs]; ok {
			p.other = append(p.other, fmt.Sprintf("Service %s/%s has %s: kubectl -n %s annotate service %s '%s=%s'", m.Namespace, m.Name, theirs, m.Namespace, m.Name, equal[theirs], value))
		}
	}
}

// unique is the name of the nth object that one of the other's becomes.
func unique(name string, n int) string {
	if n == 1 {
		return name
	}
	return fmt.Sprintf("%s-%d", name, n)
}

func typeOf(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: kind}
}

// poolCalled makes a pool without addresses, with its name as a label.
func poolCalled(name string) *v1alpha1.AddressPool {
	return &v1alpha1.AddressPool{TypeMeta: typeOf("AddressPool"), ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{PoolLabel: name}}}
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
