package demo

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Objects is the cluster of a story of the commands. A document that names an object again
// is merged into it (RFC 7386: null takes a field away), and "delete: true" deletes it. A
// Service's ports may be written as "1-4097".
type Objects struct {
	all map[string]map[string]any // by kind, namespace and name
}

// Do reads the YAML documents of text.
func (o *Objects) Do(text string) error {
	for _, doc := range strings.Split(text, "---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		var obj map[string]any
		if err := yaml.Unmarshal([]byte(doc), &obj); err != nil {
			return err
		}
		if err := o.edit(obj); err != nil {
			return err
		}
	}
	return nil
}

// many writes out the ports of a Service that a story gives as "1-4097".
func many(obj map[string]any) error {
	spec, _ := obj["spec"].(map[string]any)
	text, short := spec["ports"].(string)
	if !short {
		return nil
	}
	var from, to int64
	if _, err := fmt.Sscanf(text, "%d-%d", &from, &to); err != nil {
		return fmt.Errorf("ports %q: %w", text, err)
	}
	var ports []any
	for n := from; n <= to; n++ {
		ports = append(ports, map[string]any{"name": fmt.Sprintf("p%d", n), "port": n, "protocol": "TCP"})
	}
	spec["ports"] = ports
	return nil
}

func (o *Objects) edit(obj map[string]any) error {
	if err := many(obj); err != nil {
		return err
	}
	u := unstructured.Unstructured{Object: obj}
	id := strings.Join([]string{u.GetKind(), u.GetNamespace(), u.GetName()}, "/")
	switch old := o.all[id]; {
	case obj["delete"] == true && old == nil:
		return fmt.Errorf("there is no %s", id)
	case obj["delete"] == true:
		delete(o.all, id)
	case old == nil && o.all == nil:
		o.all = map[string]map[string]any{id: obj}
	case old == nil:
		o.all[id] = obj
	default:
		merge(old, obj)
	}
	return nil
}

// merge is a JSON merge patch (RFC 7386).
func merge(into, patch map[string]any) {
	for k, v := range patch {
		inner, isMap := v.(map[string]any)
		was, hadMap := into[k].(map[string]any)
		switch {
		case v == nil:
			delete(into, k)
		case isMap && hadMap:
			merge(was, inner)
		default:
			into[k] = v
		}
	}
}

// All returns copies of the objects, by kind, namespace and name.
func (o *Objects) All() []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, id := range slices.Sorted(maps.Keys(o.all)) {
		out = append(out, (&unstructured.Unstructured{Object: o.all[id]}).DeepCopy())
	}
	return out
}
