package kube

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

var web = snapshot.Ref{Namespace: "default", Name: "web"}

// meta is an object called name, made as uid, at version.
func meta(name, uid, version string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, UID: types.UID(uid), ResourceVersion: version}
}

func newService(name, version, ip string) *corev1.Service {
	m := meta(name, "uid", version)
	m.Namespace = "default"
	return &corev1.Service{ObjectMeta: m, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIPs: []string{ip}}}
}

func endpointsOf(b *Builder, ref snapshot.Ref) string {
	svc := b.Snapshot().Service(ref)
	if svc == nil {
		return "no Service"
	}
	return text(svc.Endpoints)
}

func set(t *testing.T, b *Builder, obj any, differs bool) {
	t.Helper()
	if got := b.Set(obj); got != differs {
		t.Errorf("Set said %t", got)
	}
}

// everyKind is one object of every kind of a Snapshot but Service and
// EndpointSlice, with a value that v changes and a version.
func everyKind(uid, version, v string) map[string]runtime.Object {
	labels := map[string]string{"v": v}
	m := func() metav1.ObjectMeta {
		o := meta("x", uid, version)
		o.Labels = labels
		return o
	}
	return map[string]runtime.Object{
		"node":         &corev1.Node{ObjectMeta: m()},
		"namespace":    &corev1.Namespace{ObjectMeta: m()},
		"servicecidr":  &networkingv1.ServiceCIDR{ObjectMeta: m(), Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10." + v + ".0.0/16"}}},
		"pool":         &v1alpha1.AddressPool{ObjectMeta: m()},
		"announcement": &v1alpha1.Announcement{ObjectMeta: m(), Spec: v1alpha1.AnnouncementSpec{L2: &v1alpha1.L2Announcement{Interfaces: []string{v}}}},
		"nodestate":    &v1alpha1.NodeState{ObjectMeta: m(), Status: v1alpha1.NodeStateStatus{Links: []v1alpha1.NodeLink{{Name: v}}}},
		"address":      &v1alpha1.Address{ObjectMeta: m(), Spec: v1alpha1.AddressSpec{Address: "192.0.2." + v}},
	}
}

// value returns the one value of a Snapshot that holds one thing; nil if none.
func value(s *snapshot.Snapshot) any {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Slice && f.Len() == 1 {
			return v.Field(i).Index(0).Interface()
		}
	}
	return nil
}

// TestBuilderKinds: a new version replaces; an older one, and the end of an
// earlier object of that name, are passed over.
func TestBuilderKinds(t *testing.T) {
	for kind := range everyKind("", "", "") {
		t.Run(kind, func(t *testing.T) {
			b := NewBuilder()
			obj := func(uid, version, v string) any { return everyKind(uid, version, v)[kind] }
			set(t, b, obj("u", "9", "1"), true)
			first := value(b.Snapshot())
			set(t, b, obj("u", "8", "2"), false)
			if now := value(b.Snapshot()); now != first {
				t.Errorf("an older version became %+v", now)
			}
			set(t, b, obj("u", "9", "1"), false)
			if kind != "address" { // its value holds the version
				set(t, b, obj("u", "10", "1"), false)
				if now := value(b.Snapshot()); now != first {
					t.Error("a version that differs in nothing has a new pointer")
				}
			}
			set(t, b, obj("u", "11", "3"), true)
			second := value(b.Snapshot())
			if second == first || reflect.DeepEqual(first, second) {
				t.Errorf("a newer version is still %+v", second)
			}
			// Made again: its versions are another count for all we know.
			set(t, b, obj("again", "5", "4"), true)
			if b.Delete(obj("u", "12", "3")) || value(b.Snapshot()) == nil {
				t.Error("the end of the earlier object ended the later one")
			}
			if !b.Delete(obj("again", "6", "4")) || value(b.Snapshot()) != nil {
				t.Error("a deleted object is still there")
			}
			if b.Delete(obj("again", "6", "4")) {
				t.Error("what is not there was deleted")
			}
		})
	}
}

func TestBuilderService(t *testing.T) {
	b := NewBuilder()
	set(t, b, newService("web", "5", "10.96.0.1"), true)
	set(t, b, newService("db", "5", "10.96.0.2"), true)
	one := b.Snapshot()
	b.Set(newService("web", "6", "10.96.0.9"))
	set(t, b, newService("db", "4", "10.96.0.8"), false)
	two := b.Snapshot()
	if got := fmt.Sprint(one.Service(web).ClusterIPs, two.Service(web).ClusterIPs); got != "[10.96.0.1] [10.96.0.9]" {
		t.Errorf("web had and has %s", got)
	}
	db := snapshot.Ref{Namespace: "default", Name: "db"}
	if one.Service(db) != two.Service(db) {
		t.Error("a Service that did not change has a new pointer")
	}
	b.Set(newService("db", "7", "10.96.0.2"))
	if b.Snapshot().Service(db) != one.Service(db) {
		t.Error("a Service whose version alone changed has a new pointer")
	}
	other := newService("web", "7", "10.96.0.9")
	other.UID = "other"
	if b.Delete(other) || b.Snapshot().Service(web) == nil {
		t.Error("the end of another object of that name deleted it")
	}
	again := newService("db", "3", "10.96.0.7")
	again.UID = "again"
	set(t, b, again, true) // its versions are another count for all we know
	if got := fmt.Sprint(b.Snapshot().Service(db).ClusterIPs); got != "[10.96.0.7]" {
		t.Errorf("db, made again, has %s", got)
	}
	if !b.Delete(newService("web", "8", "")) || b.Snapshot().Service(web) != nil || b.Service(web) != nil {
		t.Error("a deleted Service is still there")
	}
}

func TestBuilderSlices(t *testing.T) {
	b := NewBuilder()
	b.Set(newService("web", "1", "10.96.0.1"))
	sl := func(version string, addr string) *discoveryv1.EndpointSlice {
		s := newSlice("web-1", "", 80, at(addr))
		s.ResourceVersion = version
		return s
	}
	set(t, b, sl("5", "10.1.1.5"), true)
	set(t, b, sl("4", "10.1.1.4"), false)
	if got := endpointsOf(b, web); got != " tcp 10.1.1.5:80 RSt" {
		t.Errorf("got %q", got)
	}
	set(t, b, sl("6", "10.1.1.6"), true)
	b.Set(newSlice("web-2", "", 80, at("10.1.1.7")))
	if got := endpointsOf(b, web); got != " tcp 10.1.1.6:80 RSt,  tcp 10.1.1.7:80 RSt" {
		t.Errorf("got %q", got)
	}
	earlier := newSlice("web-2", "", 80)
	earlier.UID = "earlier"
	if b.Delete(earlier) {
		t.Error("the end of another slice of that name deleted it")
	}
	b.Delete(newSlice("web-2", "", 80))
	b.Delete(sl("7", "10.1.1.6"))
	if got := endpointsOf(b, web); got != "" {
		t.Errorf("got %q", got)
	}
	if b.Delete(sl("7", "10.1.1.6")) {
		t.Error("a slice that is not there was deleted")
	}
}

// TestBuilderSliceBeforeService: informers keep no order between kinds.
func TestBuilderSliceBeforeService(t *testing.T) {
	b := NewBuilder()
	b.Set(newSlice("web-1", "", 80, at("10.1.1.5")))
	if got := endpointsOf(b, web); got != "no Service" {
		t.Errorf("got %q", got)
	}
	b.Set(newService("web", "1", "10.96.0.1"))
	if got := endpointsOf(b, web); got != " tcp 10.1.1.5:80 RSt" {
		t.Errorf("got %q", got)
	}
}

// spec 87: TestBuilderSliceLabels: the headless label takes a slice out and costs no
// sync when it was not in; a slice that moves to another Service leaves the first.
func TestBuilderSliceLabels(t *testing.T) {
	b := NewBuilder()
	b.Set(newService("web", "1", "10.96.0.1"))
	b.Set(newService("db", "1", "10.96.0.2"))
	sl := newSlice("one", "", 80, at("10.1.1.5"))
	with := func(version, service string, headless bool) *discoveryv1.EndpointSlice {
		c := sl.DeepCopy()
		c.ResourceVersion = version
		c.Labels[discoveryv1.LabelServiceName] = service
		if headless {
			c.Labels[corev1.IsHeadlessService] = ""
		}
		return c
	}
	const there = " tcp 10.1.1.5:80 RSt"
	db := snapshot.Ref{Namespace: "default", Name: "db"}
	for i, step := range []struct {
		slice           *discoveryv1.EndpointSlice
		differs         bool
		wantWeb, wantDB string
	}{
		{with("1", "web", true), false, "", ""},
		{with("2", "web", false), true, there, ""},
		{with("3", "web", true), true, "", ""},
		{with("4", "web", true), false, "", ""},
		{with("5", "web", false), true, there, ""},
		{with("4", "web", true), false, there, ""}, // older
		{with("6", "db", false), true, "", there},
		{with("7", "", false), true, "", ""},
		{with("8", "", false), false, "", ""},
	} {
		set(t, b, step.slice, step.differs)
		if gotWeb, gotDB := endpointsOf(b, web), endpointsOf(b, db); gotWeb != step.wantWeb || gotDB != step.wantDB {
			t.Errorf("step %d: web %q, db %q", i, gotWeb, gotDB)
		}
	}
	b.Set(with("9", "web", false))
	// The last state that an informer knew of may have other labels.
	b.Delete(with("6", "db", false))
	if got := endpointsOf(b, web); got != "" {
		t.Errorf("a deleted slice left %q", got)
	}
}

// TestBuilderOrder: the order of events does not matter to the result.
func TestBuilderOrder(t *testing.T) {
	var events []any
	for i := range 6 {
		eps := []discoveryv1.Endpoint{at("10.1.1.5"), at("10.1.1." + strconv.Itoa(6+i%3))}
		eps[0].Conditions = discoveryv1.EndpointConditions{Ready: ptr(i%2 == 0), Terminating: ptr(i%3 == 0)}
		eps[1].NodeName = ptr("node-" + strconv.Itoa(i))
		events = append(events, newSlice("slice-"+strconv.Itoa(i), "", 80, eps...), newService("svc-"+strconv.Itoa(i), "1", "10.96.0.1"))
	}
	events = append(events, newService("web", "1", "10.96.0.1"), newService("web", "2", "10.96.0.2"))
	for _, o := range everyKind("u", "1", "1") {
		events = append(events, o)
	}
	var want *snapshot.Snapshot
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		b := NewBuilder()
		for _, e := range events {
			b.Set(e)
		}
		got := b.Snapshot()
		if want == nil {
			want = got
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("order %d: got %+v, want %+v", seed, got.Service(web), want.Service(web))
		}
	}
}

// TestBuilderRenewal: a NodeState that was only renewed changes no Snapshot.
func TestBuilderRenewal(t *testing.T) {
	b := NewBuilder()
	state := func(version string) *v1alpha1.NodeState {
		at := metav1.NewMicroTime(time.Unix(1_000_000, 0))
		return &v1alpha1.NodeState{ObjectMeta: meta("a", "u", version), Status: v1alpha1.NodeStateStatus{RenewTime: &at}}
	}
	one, two := state("1"), state("2")
	two.Status.RenewTime = ptr(metav1.NewMicroTime(one.Status.RenewTime.Add(10 * time.Second)))
	set(t, b, one, true)
	set(t, b, two, false)
}

func TestBuilderUnknownKind(t *testing.T) {
	b := NewBuilder()
	set(t, b, &corev1.Pod{}, false)
	if b.Delete(&corev1.Pod{}) {
		t.Error("a Pod was deleted")
	}
}

// TestBuilderNotesChanges: what a Snapshot notes is what a walk over it and over any
// earlier one finds.
func TestBuilderNotesChanges(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	b := NewBuilder()
	all := []*snapshot.Snapshot{b.Snapshot()}
	for version := range 300 {
		for range 1 + r.IntN(3) {
			name, v := strconv.Itoa(r.IntN(5)), strconv.Itoa(version)
			objects := []any{
				newService(name, v, "10.96.0."+strconv.Itoa(r.IntN(3))),
				newSlice("slice-"+name, "", 80, at("10.1.1."+strconv.Itoa(r.IntN(3)))),
				&v1alpha1.Address{ObjectMeta: meta("192-0-2-"+name, "u", v), Spec: v1alpha1.AddressSpec{Address: "192.0.2." + name}},
			}
			switch o := objects[r.IntN(len(objects))]; r.IntN(4) {
			case 0:
				b.Remove(o)
			default:
				b.Reset(o)
			}
		}
		now := b.Snapshot()
		all = append(all, now)
		old := all[r.IntN(len(all))]
		bare := *now // has no notes
		if got, want := snapshot.Diff(old, now), snapshot.Diff(old, &bare); fmt.Sprint(got.Services, got.Addresses) != fmt.Sprint(want.Services, want.Addresses) {
			t.Fatalf("version %d: got %v, want %v", version, got, want)
		}
	}
}
