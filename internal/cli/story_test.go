package cli_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/cli"
	"github.com/fairlead/fairlead/internal/cli/demo"
	"github.com/fairlead/fairlead/internal/test/storytest"
	"github.com/fairlead/fairlead/internal/traffic"
)

// now is when every story is told.
var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// TestStories runs commands against a cluster in memory. It is that of
// testdata/base.yaml, changed by the story's "cluster" section. A section
// "forbidden" lists resources that may not be read, "files" is what -f reads. A
// section that is named like a command is what it prints and exits with.
func TestStories(t *testing.T) {
	storytest.Each(t, func(t *testing.T, s *storytest.Story) {
		if !strings.HasPrefix(s.Comment, "# ") {
			t.Fatal("a story begins with what it shows")
		}
		w := newWorld(t)
		for _, sec := range s.Sections {
			line, command := strings.CutPrefix(sec.Name, "fairlead ")
			switch {
			case sec.Name == "cluster":
				w.change(t, sec.Text)
			case sec.Name == "forbidden":
				w.forbidden = strings.Fields(sec.Text)
			case sec.Name == "files":
				w.files = t.TempDir()
				must(t, os.WriteFile(w.files+"/all.yaml", []byte(sec.Text), 0o600))
			case command:
				sec.Want(t, w.run(t, line))
			default:
				t.Fatalf("no section %q", sec.Name)
			}
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a cluster in memory.
type world struct {
	objects   demo.Objects
	forbidden []string
	files     string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	data, err := os.ReadFile("testdata/base.yaml")
	must(t, err)
	w := &world{}
	w.change(t, string(data))
	return w
}

func (w *world) change(t *testing.T, text string) {
	t.Helper()
	must(t, w.objects.Do(text))
}

// run runs one command and returns what it prints, and its exit code if it is
// not 0.
func (w *world) run(t *testing.T, line string) string {
	t.Helper()
	var out bytes.Buffer
	shared := pflag.NewFlagSet("shared", pflag.ContinueOnError)
	namespace := shared.StringP("namespace", "n", "", "")
	env := &cli.Env{Out: &out, Err: &out, Version: "0.1.0", Connect: func() (*cli.Client, error) { return w.client(t), nil }}
	env.Namespace = func() (string, bool, error) { return cmp.Or(*namespace, "default"), *namespace != "", nil }
	args := strings.Fields(strings.ReplaceAll(line, "FILES", w.files))
	for _, cmd := range env.Commands() {
		if cmd.Name() != args[0] {
			continue
		}
		cmd.Flags().AddFlagSet(shared)
		cmd.SetArgs(args[1:])
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		err := cmd.ExecuteContext(t.Context())
		text := w.named(out.String())
		var exit *cli.Exit
		switch {
		case errors.As(err, &exit) && exit.Err != nil:
			return fmt.Sprintf("%sfairlead: %s\nexit %d\n", text, w.named(exit.Err.Error()), exit.Code)
		case errors.As(err, &exit):
			return fmt.Sprintf("%sexit %d\n", text, exit.Code)
		case err != nil:
			return fmt.Sprintf("%sfairlead: %s\nexit 1\n", text, err)
		}
		return text
	}
	t.Fatalf("no command %q", args[0])
	return ""
}

// named puts FILES for the folder of the story's files.
func (w *world) named(text string) string {
	if w.files == "" {
		return text
	}
	return strings.ReplaceAll(text, w.files, "FILES")
}

// kinds are those that the commands read.
var kinds = sync.OnceValues(func() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	return s, errors.Join(corev1.AddToScheme(s), appsv1.AddToScheme(s), coordinationv1.AddToScheme(s), discoveryv1.AddToScheme(s),
		networkingv1.AddToScheme(s), v1alpha1.AddToScheme(s))
})

func (w *world) client(t *testing.T) *cli.Client {
	t.Helper()
	scheme, err := kinds()
	must(t, err)
	var all, typed []runtime.Object
	for _, u := range w.objects.All() {
		all = append(all, u)
		obj, err := scheme.New(u.GroupVersionKind())
		must(t, err)
		must(t, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u.Object, obj, true))
		switch obj.(type) {
		case *corev1.Pod, *corev1.Event:
			typed = append(typed, obj)
		}
	}
	d := dynamicfake.NewSimpleDynamicClient(scheme, all...)
	d.PrependReactor("*", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		gvr := a.GetResource()
		if slices.Contains(w.forbidden, gvr.Resource) {
			return true, nil, apierrors.NewForbidden(schema.GroupResource{Group: gvr.Group, Resource: gvr.Resource}, "", errors.New("not yours"))
		}
		return false, nil, nil
	})
	k := fake.NewSimpleClientset(typed...) // its successor reads the whole schema for every client
	k.PrependReactor("create", "subjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		what := review.Spec.ResourceAttributes
		review.Status.Allowed = !slices.Contains(w.forbidden, what.Verb+":"+what.Resource)
		return true, review, nil
	})
	asked := map[string]int{}
	k.AddProxyReactor("pods", func(a clienttesting.Action) (bool, rest.ResponseWrapper, error) {
		name := a.(clienttesting.ProxyGetAction).GetName()
		if slices.Contains(w.forbidden, "pods/proxy") {
			return true, answer{err: apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, name, errors.New("not yours"))}, nil
		}
		asked[name]++
		return true, answer{report: counted(asked[name])}, nil
	})
	return &cli.Client{Dynamic: d, Kube: k, Now: func() time.Time { return now }}
}

// counted is what an agent says that is asked for the nth time, a second after the
// time before: 25 connections and 3 MB more.
func counted(n int) traffic.Report {
	return traffic.Report{Since: now, At: now.Add(time.Duration(n) * time.Second), Counts: true, VIPs: []traffic.VIP{
		{Address: "192.0.2.200", Connections: uint64(25 * n), Bytes: uint64(3_000_000 * n), Open: 40},
	}}
}

// answer is an agent's.
type answer struct {
	report traffic.Report
	err    error
}

func (a answer) DoRaw(context.Context) ([]byte, error) {
	if a.err != nil {
		return nil, a.err
	}
	return json.Marshal(a.report)
}

func (a answer) Stream(context.Context) (io.ReadCloser, error) { return nil, errors.ErrUnsupported }
