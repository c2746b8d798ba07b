package ui

import (
	"fmt"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/doctor"
	"github.com/fairlead/fairlead/internal/cli/explain"
	"github.com/fairlead/fairlead/internal/cli/manifest"
	"github.com/fairlead/fairlead/internal/cli/render"
	"github.com/fairlead/fairlead/internal/cli/survey"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/ui/page"
)

// mostPasted is how many bytes of manifests are read.
const mostPasted = 1 << 20

// preview says what pasted manifests would do.
func (s *Server) preview(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, mostPasted)
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	v, err := s.look(r)
	if err != nil {
		turnAway(w, r, err, "/whatif")
		return
	}
	state, _ := v.now(r.Context())
	p := Preview(v.source.Objects(), state, r.PostForm.Get("manifests"), s.opt.Namespace)
	s.write(w, r, v, page.WhatIf(p, true))
}

// Preview decides as if manifests were applied to the cluster of objects, whose State is
// before.
func Preview(objects *survey.Objects, before *cluster.State, manifests, namespace string) page.Preview {
	out := page.Preview{Manifests: manifests}
	m, err := manifest.Load([]string{manifest.Stdin}, strings.NewReader(manifests), namespace)
	if err != nil {
		out.Err = err
		return out
	}
	out.Notes = m.Notes
	for _, p := range m.Problems {
		out.Refused = append(out.Refused, doctor.Rejected(p))
	}
	added := render.Complete(m.Objects)
	merged := *objects
	merged.All, merged.FromFiles = replace(objects.All, added), true
	after := merged.State()
	asked := map[snapshot.Ref]bool{}
	for _, o := range added {
		svc, ok := o.(*corev1.Service)
		if !ok {
			continue
		}
		ref := snapshot.Ref{Namespace: svc.Namespace, Name: svc.Name}
		if t, ok := explain.Explain(after, ref); ok && !asked[ref] {
			out.Traces = append(out.Traces, t)
		}
		asked[ref] = true
	}
	out.Others = differences(before, after, asked)
	return out
}

// key names an object.
func key(o runtime.Object) string {
	m, err := meta.Accessor(o)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%T %s/%s", o, m.GetNamespace(), m.GetName())
}

// replace returns old with added, which take the places of those of the same names. A
// Service that exists keeps its UID and status, by which it holds its address.
func replace(old, added []runtime.Object) []runtime.Object {
	at := map[string]int{}
	out := make([]runtime.Object, len(old), len(old)+len(added))
	for i, o := range old {
		out[i], at[key(o)] = o, i
	}
	for _, o := range added {
		i, there := at[key(o)]
		if !there {
			out = append(out, o)
			continue
		}
		if was, ok := out[i].(*corev1.Service); ok {
			is := o.(*corev1.Service) // key names the type
			is.UID, is.CreationTimestamp, is.Status = was.UID, was.CreationTimestamp, was.Status
		}
		out[i] = o
	}
	return out
}

// differences says what changes for Services that are not in asked.
func differences(before, after *cluster.State, asked map[snapshot.Ref]bool) (out []string) {
	was := map[snapshot.Ref]string{}
	for _, o := range allocator.Decide(before.Snapshot, before.Allocation).Services {
		was[o.Ref] = outcome(o)
	}
	for _, o := range allocator.Decide(after.Snapshot, after.Allocation).Services {
		if is := outcome(o); is != was[o.Ref] && !asked[o.Ref] {
			out = append(out, fmt.Sprintf("%s would have %s instead of %s", o.Ref, is, was[o.Ref]))
		}
	}
	return out
}

func outcome(o allocator.Outcome) string {
	var parts []string
	for _, a := range o.Addrs {
		parts = append(parts, a.String())
	}
	if len(parts) == 0 {
		parts = append(parts, "no address")
	}
	if o.Refusal != nil {
		parts = append(parts, "("+o.Refusal.String()+")")
	}
	return strings.Join(parts, " ")
}
