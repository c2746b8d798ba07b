// Package manifest reads manifests for the commands that need no cluster, and says
// what of them the API server would refuse.
package manifest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

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

// Load reads the manifests in paths: files, folders with all their folders, patterns
// such as *.yaml, or Stdin. Documents are YAML or JSON, one after the other, and lists
// are taken apart. Only what cannot be read at all is an error.
func Load(paths []string, stdin io.Reader) (*Manifests, error) {
	l, err := newLoader()
	if err != nil {
		return nil, err
	}
	files, err := expand(paths)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if err := l.file(file, stdin); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return &l.out, nil
}

type loader struct {
	out    Manifests
	scheme *runtime.Scheme
	strict runtime.Decoder
}

func newLoader() (*loader, error) {
	l := &loader{scheme: runtime.NewScheme()}
	if err := errors.Join(clientscheme.AddToScheme(l.scheme), v1alpha1.AddToScheme(l.scheme)); err != nil {
		return nil, fmt.Errorf("kinds: %w", err)
	}
	l.strict = serializer.NewCodecFactory(l.scheme, serializer.EnableStrict).UniversalDeserializer()
	return l, nil
}

// file reads one file.
func (l *loader) file(file string, stdin io.Reader) error {
	in := stdin
	if file != Stdin {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
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
		l.object(obj, fmt.Sprintf("%s, document %d", file, n))
	}
}

// object takes in one object, or those of a list.
func (l *loader) object(obj map[string]any, where string) {
	apiVersion, _ := obj["apiVersion"].(string)
	kind, _ := obj["kind"].(string)
	if items, ok := obj["items"].([]any); ok && strings.HasSuffix(kind, "List") {
		for i, item := range items {
			one, ok := item.(map[string]any)
			if !ok {
				continue
			}
			if one["kind"] == nil && kind != "List" {
				one["apiVersion"], one["kind"] = apiVersion, strings.TrimSuffix(kind, "List")
			}
			l.object(one, fmt.Sprintf("%s, item %d", where, i+1))
		}
		return
	}
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
