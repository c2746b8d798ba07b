// Package manifest reads manifests for the commands that need no cluster, and says
// what of them the API server would refuse.
package manifest

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	clientscheme "k8s.io/client-go/kubernetes/scheme"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// ownKinds are fairlead's.
var ownKinds = []string{"Address", "AddressPool", "Announcement", "BGPPeer", "NodeState"}

// Stdin is the path that stands for the standard input.
const Stdin = "-"

// Problem is one reason why the API server would refuse an object.
type Problem struct {
	Kind, Namespace, Name string
	Message               string
}

// Manifests is what was read.
type Manifests struct {
	Objects  []runtime.Object // those that the API server would take
	Problems []Problem        // of the others
	Notes    []string         // what was passed over, and why
}

// Refused returns an error that names the first of the objects that the API server
// would refuse; nil if there is none.
func (m *Manifests) Refused() error {
	if len(m.Problems) == 0 {
		return nil
	}
	p := m.Problems[0]
	return fmt.Errorf("%s %s: %s", p.Kind, strings.TrimPrefix(p.Namespace+"/"+p.Name, "/"), p.Message)
}

// Load reads the manifests in paths, as Each does. An object of a namespace that names
// none is in namespace. Only what cannot be read at all is an error.
func Load(paths []string, stdin io.Reader, namespace string) (*Manifests, error) {
	l, err := newLoader(namespace)
	if err != nil {
		return nil, err
	}
	return &l.out, Each(paths, stdin, l.object)
}

// Each calls visit with every object in paths, and where it stands: files, folders with
// all their folders, patterns such as *.yaml, or Stdin. Documents are YAML or JSON, one
// after the other, and lists are taken apart. It ends at the first file or document that cannot
// be read, and names it.
func Each(paths []string, stdin io.Reader, visit func(obj map[string]any, where string)) error {
	files, err := expand(paths)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := eachOf(file, stdin, visit); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

func eachOf(file string, stdin io.Reader, visit func(obj map[string]any, where string)) error {
	if file == Stdin {
		return Read(stdin, file, visit)
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return Read(f, file, visit)
}

// Read is Each for the documents of one reader, which visit knows by name.
func Read(in io.Reader, name string, visit func(obj map[string]any, where string)) error {
	docs := utilyaml.NewYAMLOrJSONDecoder(bufio.NewReader(in), 4096)
	for n := 1; ; n++ {
		var raw runtime.RawExtension
		switch err := docs.Decode(&raw); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("document %d: %w", n, err)
		}
		if len(raw.Raw) == 0 || string(raw.Raw) == "null" {
			continue
		}
		var obj map[string]any
		if err := utiljson.Unmarshal(raw.Raw, &obj); err != nil {
			return fmt.Errorf("document %d: it is not an object: %w", n, err)
		}
		flatten(obj, fmt.Sprintf("%s, document %d", name, n), visit)
	}
}

// flatten visits one object, or those of a list.
func flatten(obj map[string]any, where string, visit func(obj map[string]any, where string)) {
	apiVersion, _ := obj["apiVersion"].(string)
	kind, _ := obj["kind"].(string)
	items, ok := obj["items"].([]any)
	if !ok || !strings.HasSuffix(kind, "List") {
		visit(obj, where)
		return
	}
	for i, item := range items {
		one, ok := item.(map[string]any)
		if !ok {
			continue
		}
		if one["kind"] == nil && kind != "List" {
			one["apiVersion"], one["kind"] = apiVersion, strings.TrimSuffix(kind, "List")
		}
		flatten(one, fmt.Sprintf("%s, item %d", where, i+1), visit)
	}
}

type loader struct {
	out       Manifests
	namespace string
	scheme    *runtime.Scheme
	strict    runtime.Decoder
}

func newLoader(namespace string) (*loader, error) {
	l := &loader{scheme: runtime.NewScheme(), namespace: namespace}
	if err := errors.Join(clientscheme.AddToScheme(l.scheme), v1alpha1.AddToScheme(l.scheme)); err != nil {
		return nil, fmt.Errorf("kinds: %w", err)
	}
	l.strict = serializer.NewCodecFactory(l.scheme, serializer.EnableStrict).UniversalDeserializer()
	return l, nil
}

// object takes in one object.
func (l *loader) object(obj map[string]any, where string) {
	apiVersion, _ := obj["apiVersion"].(string)
	kind, _ := obj["kind"].(string)
	gvk := schema.FromAPIVersionAndKind(apiVersion, kind)
	switch {
	case kind == "" || apiVersion == "":
		l.note("%s has no apiVersion and kind: it is not an object of Kubernetes", where)
	case l.scheme.Recognizes(gvk):
		l.known(obj, gvk)
	case gvk.Group == v1alpha1.GroupVersion.Group:
		l.problem(obj, "there is no such kind in %s: there are %s", v1alpha1.GroupVersion, strings.Join(ownKinds, ", "))
	default:
		l.note("%s: fairlead does not read the kind %s of %s", where, kind, apiVersion)
	}
}

func (l *loader) note(format string, args ...any) {
	l.out.Notes = append(l.out.Notes, fmt.Sprintf(format, args...))
}

// known takes in an object of a kind that is read.
func (l *loader) known(obj map[string]any, gvk schema.GroupVersionKind) {
	if !l.named(obj) {
		return
	}
	data, err := utiljson.Marshal(obj)
	if err != nil {
		l.problem(obj, "%v", err)
		return
	}
	typed, _, err := l.strict.Decode(data, nil, nil)
	if err != nil {
		l.problem(obj, "%s", strings.TrimPrefix(err.Error(), "strict decoding error: "))
		return
	}
	if why := refused(typed); len(why) > 0 {
		for _, text := range why {
			l.problem(obj, "%s", text)
		}
		return
	}
	l.add(typed, gvk)
}

func (l *loader) add(obj runtime.Object, gvk schema.GroupVersionKind) {
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	switch obj := obj.(type) {
	case *corev1.Service:
		obj.Namespace = cmp.Or(obj.Namespace, l.namespace)
	case *appsv1.Deployment:
		obj.Namespace = cmp.Or(obj.Namespace, l.namespace)
	case *discoveryv1.EndpointSlice:
		obj.Namespace = cmp.Or(obj.Namespace, l.namespace)
		for i := range obj.Ports { // the API server gives a port without a name the empty one
			obj.Ports[i].Name = cmp.Or(obj.Ports[i].Name, new(string))
		}
	}
	l.out.Objects = append(l.out.Objects, obj)
}

// named reports whether obj has a name.
func (l *loader) named(obj map[string]any) bool {
	if m, err := meta.Accessor(unstructured(obj)); err == nil && m.GetName() != "" {
		return true
	}
	l.problem(obj, "metadata.name is missing")
	return false
}

func (l *loader) problem(obj map[string]any, format string, args ...any) {
	p := Problem{Message: fmt.Sprintf(format, args...)}
	p.Kind, _ = obj["kind"].(string)
	if m, err := meta.Accessor(unstructured(obj)); err == nil {
		p.Namespace, p.Name = m.GetNamespace(), m.GetName()
	}
	l.out.Problems = append(l.out.Problems, p)
}

// extensions are those of manifests in folders.
var extensions = []string{".yaml", ".yml", ".json"}

// expand returns the files that paths name, in their order.
func expand(paths []string) (out []string, err error) {
	for _, p := range paths {
		found := []string{p}
		if _, err := os.Stat(p); p != Stdin && err != nil {
			if found, _ = filepath.Glob(p); len(found) == 0 {
				return nil, err
			}
		}
		for _, f := range found {
			files, err := expandOne(f)
			if err != nil {
				return nil, err
			}
			out = append(out, files...)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no manifests found")
	}
	return out, nil
}

// expandOne returns the manifests in a folder and its folders, or the file itself.
func expandOne(path string) (out []string, err error) {
	if path == Stdin {
		return []string{path}, nil
	}
	err = filepath.WalkDir(path, func(file string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (file == path || slices.Contains(extensions, filepath.Ext(file))) {
			out = append(out, file)
		}
		return err
	})
	return out, err
}
