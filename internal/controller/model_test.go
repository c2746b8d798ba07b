package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolsrecord "k8s.io/client-go/tools/record"
	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/test/apitest"
)

// TestTransitions makes random changes to a cluster with two controllers that both
// act, see every kind of object late and crash at any write. No status ever names an
// address that no record gives to its Service, and when everything has been seen,
// statuses, records, conditions and finalizers agree.
func TestTransitions(t *testing.T) {
	api := apitest.New()
	var replicas [2]*modelReplica
	for i := range replicas {
		replicas[i] = newModelReplica(t, api)
	}
	for _, r := range replicas {
		r.follow()
	}
	rapid.Check(t, func(t *rapid.T) {
		m := &model{api: api, replicas: replicas, opt: allocator.Options{Class: v1alpha1.LoadBalancerClass, DefaultClass: true}}
		defer m.clear()
		m.sharing = rapid.Bool().Draw(t, "sharing")
		m.addPool(t)
		for _, r := range replicas {
			r.restart(m.opt)
		}
		t.Repeat(map[string]func(*rapid.T){
			"create": m.create, "create again": m.create, "edit": m.edit, "type": m.retype, "delete": m.remove, "wipe": m.wipe,
			"pool": m.addPool, "pool gone": m.dropPool, "flag": m.flag, "v0.1": m.old,
			"bring": m.bring, "bring more": m.bring, "act": m.act, "act again": m.act, "act once more": m.act,
			"settle": m.settle, "backup": m.backUp, "restore": m.restore,
			"": m.never,
		})
		m.settle(t)
	})
}

// modelReplica is one controller, which is made again after a crash, and what it sees.
type modelReplica struct {
	*Controller
	api    *apitest.API
	store  *kube.Store
	sees   *apitest.Follower
	writes int // until it crashes; negative: it does not
	after  bool
}

var errCrash = errors.New("the controller has crashed")

func newModelReplica(t *testing.T, api *apitest.API) *modelReplica {
	r := &modelReplica{api: api}
	r.restart(allocator.Options{})
	r.store = r.Store
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.store.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for !r.store.Synced() {
		time.Sleep(time.Millisecond)
	}
	return r
}

func (r *modelReplica) follow() { r.sees = r.api.Follow(r.store) }

// restart makes a new controller, which has seen nothing of what is under way.
func (r *modelReplica) restart(opt allocator.Options) {
	r.Controller = patient(r.api.Connect(r.fault))
	r.Options, r.Recorder = opt, &toolsrecord.FakeRecorder{}
	r.items.MinRetry, r.items.Parallel = 0, 1
	r.writes = -1
	if r.store != nil {
		r.Store, r.writer.Store = r.store, r.store
	}
	if r.sees != nil {
		r.sees.Relist()
		r.sees.BringAll()
	}
}

// fault fails every write from the crash on. The first of them may have been made.
func (r *modelReplica) fault() (before, after error) {
	switch {
	case r.writes < 0:
		return nil, nil
	case r.writes > 0:
		r.writes--
		return nil, nil
	case r.after:
		r.after = false
		return nil, errCrash
	}
	return errCrash, nil
}

type model struct {
	api      *apitest.API
	replicas [2]*modelReplica
	opt      allocator.Options
	sharing  bool
	made     int
	backup   *apitest.Backup
	restored bool
	torn     bool // a controller may still act on what was before the restore
}

func (m *model) clear() {
	for _, s := range m.api.Services() {
		s.Finalizers = nil
		m.api.Delete(s)
	}
	m.api.Clear()
	for _, r := range m.replicas {
		r.sees.BringAll()
	}
}

func (m *model) pick(t *rapid.T) *corev1.Service {
	all := m.api.Services()
	if len(all) == 0 {
		t.Skip("no Service")
	}
	return all[rapid.IntRange(0, len(all)-1).Draw(t, "service")]
}

func (m *model) replica(t *rapid.T) *modelReplica {
	return m.replicas[rapid.IntRange(0, 1).Draw(t, "replica")]
}

var modelNames = []string{"v", "w", "x", "y", "z"}

func (m *model) create(t *rapid.T) {
	name := rapid.SampledFrom(modelNames).Draw(t, "name")
	if slices.ContainsFunc(m.api.Services(), func(s *corev1.Service) bool { return s.Name == name }) {
		t.Skip("it is there")
	}
	m.made++
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "a", Name: name, UID: types.UID(fmt.Sprintf("%s-%d", name, m.made)), CreationTimestamp: metav1.NewTime(time.Unix(int64(m.made), 0)),
		},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIPs: []string{"10.96.0.10"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if rapid.IntRange(0, 3).Draw(t, "foreign finalizer") == 0 {
		svc.Finalizers = []string{"example.com/keep"}
	}
	m.ask(t, svc)
	m.class(t, svc)
	m.api.Put(svc)
}

func (m *model) ask(t *rapid.T, svc *corev1.Service) {
	svc.Annotations = map[string]string{}
	if rapid.Bool().Draw(t, "asks") {
		svc.Annotations[allocator.AnnotationAddresses] = fmt.Sprintf("192.0.2.%d", rapid.IntRange(0, 5).Draw(t, "address"))
	}
	if m.sharing && rapid.Bool().Draw(t, "shares") {
		svc.Annotations[allocator.AnnotationShareKey] = "K"
	}
	svc.Spec.Ports[0].Port = rapid.Int32Range(80, 82).Draw(t, "port")
}

func (m *model) class(t *rapid.T, svc *corev1.Service) {
	svc.Spec.LoadBalancerClass = nil
	if class := rapid.SampledFrom([]string{"", "", v1alpha1.LoadBalancerClass, "example.org/lb"}).Draw(t, "class"); class != "" {
		svc.Spec.LoadBalancerClass = &class
	}
}

func (m *model) edit(t *rapid.T) {
	svc := m.pick(t)
	m.ask(t, svc)
	m.api.Put(svc)
}

func (m *model) retype(t *rapid.T) {
	svc := m.pick(t)
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil
	} else {
		svc.Spec.Type = corev1.ServiceTypeLoadBalancer
		m.class(t, svc)
	}
	m.api.Put(svc)
}

func (m *model) remove(t *rapid.T) { m.api.Delete(m.pick(t)) }

func (m *model) wipe(t *rapid.T) {
	svc := m.pick(t)
	svc.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	m.api.Put(svc)
}

func (m *model) addPool(t *rapid.T) {
	auto := true
	from := rapid.IntRange(0, 4).Draw(t, "from")
	name := rapid.SampledFrom([]string{"p", "q"}).Draw(t, "pool")
	for _, p := range m.api.Pools() {
		if p.Name == name {
			m.api.DeletePool(p)
		}
	}
	m.made++
	m.api.PutPool(&v1alpha1.AddressPool{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(fmt.Sprintf("pool-%d", m.made)), CreationTimestamp: metav1.NewTime(time.Unix(int64(m.made), 0))},
		Spec:       v1alpha1.AddressPoolSpec{AutoAssign: &auto, Addresses: []string{fmt.Sprintf("192.0.2.%d-192.0.2.%d", from, from+1)}},
	})
}

func (m *model) dropPool(t *rapid.T) {
	if all := m.api.Pools(); len(all) > 0 {
		m.api.DeletePool(all[0])
	}
}

// flag changes --default-class, and with it restarts the replicas. Two that act at once
// with different flags would undo each other's work until one of them ends.
func (m *model) flag(*rapid.T) {
	m.opt.DefaultClass = !m.opt.DefaultClass
	for _, r := range m.replicas {
		r.restart(m.opt)
	}
}

// old lets version 0.1 lead in between: it puts its finalizer on what it serves.
func (m *model) old(t *rapid.T) {
	for _, svc := range m.api.Services() {
		if svc.DeletionTimestamp != nil || len(svc.Status.LoadBalancer.Ingress) == 0 || meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAddressAssigned) == nil {
			continue
		}
		f := v1alpha1.FinalizerClassless
		if svc.Spec.LoadBalancerClass != nil {
			f = v1alpha1.FinalizerClassed
		}
		if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && !slices.Contains(svc.Finalizers, f) {
			svc.Finalizers = append(svc.Finalizers, f)
			m.api.Put(svc)
		}
	}
	for _, r := range m.replicas {
		r.restart(m.opt)
	}
}

func (m *model) bring(t *rapid.T) {
	r := m.replica(t)
	if behind := r.sees.Behind(); len(behind) > 0 {
		r.sees.Bring(rapid.SampledFrom(behind).Draw(t, "kind"), rapid.IntRange(1, 3).Draw(t, "changes"))
	}
}

// act lets one replica act. It may crash at any write.
func (m *model) act(t *rapid.T) {
	r := m.replica(t)
	r.writes, r.after = rapid.IntRange(-1, 4).Draw(t, "writes before the crash"), rapid.Bool().Draw(t, "the write is made")
	if err := r.step(context.Background()); err != nil {
		t.Fatal(err)
	}
	if r.writes == 0 {
		r.restart(m.opt)
	}
	r.writes = -1
}

func (m *model) backUp(*rapid.T) { m.backup = m.api.Backup() }

// restore brings the cluster back to a backup. The controllers keep running.
func (m *model) restore(t *rapid.T) {
	if m.backup == nil {
		t.Skip("no backup")
	}
	for _, r := range m.replicas {
		r.sees.BringAll() // the backup is older than what is under way
	}
	m.api.Restore(m.backup)
	m.restored, m.torn = true, true
}

// never holds at every moment: what a status names is on record for its Service.
// Where Services share, one of a ring may come too early, and no controller can know
// of a restore before it lists again.
func (m *model) never(t *rapid.T) {
	if m.sharing || m.torn {
		return
	}
	for _, s := range m.api.Services() {
		for _, in := range s.Status.LoadBalancer.Ingress {
			if !m.holds(s, in.IP) {
				t.Fatalf("the status of %s names %s, and no record does:\n%s", s.Name, in.IP, m)
			}
		}
	}
}

func (m *model) holds(s *corev1.Service, ip string) bool { return holds(m.api, s, ip) }

// holds reports whether a record gives ip to s.
func holds(api *apitest.API, s *corev1.Service, ip string) bool {
	return slices.ContainsFunc(api.Records(), func(a *v1alpha1.Address) bool {
		return a.Spec.Address == ip && slices.ContainsFunc(a.Spec.Holders, func(h v1alpha1.AddressHolder) bool { return h.UID == s.UID })
	})
}

// settle brings everything to both replicas until neither writes any more, and checks
// that all agrees then.
func (m *model) settle(t *rapid.T) {
	act := func() error {
		for _, r := range m.replicas {
			r.sees.BringAll()
			if err := r.step(context.Background()); err != nil {
				return err
			}
		}
		return nil
	}
	rounds := 0
	for ; m.api.Quiet(act) != nil; rounds++ {
		if rounds > 20 {
			t.Fatalf("it does not settle:\n%s", m)
		}
	}
	m.torn = m.torn && len(m.api.Pools()) == 0
	m.never(t)
	alive := map[types.UID]bool{}
	for _, s := range m.api.Services() {
		alive[s.UID] = true
		m.agrees(t, s)
	}
	for _, a := range m.api.Records() {
		for _, h := range a.Spec.Holders {
			if !alive[h.UID] {
				t.Fatalf("the record of %s names %s, which is gone:\n%s", a.Name, h.UID, m)
			}
		}
	}
}

// agrees checks one Service when nothing is under way.
func (m *model) agrees(t *rapid.T, s *corev1.Service) {
	class := classOf(s)
	ours := s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.DeletionTimestamp == nil && (class == m.opt.Class || class == "" && m.opt.DefaultClass)
	// Kubernetes' own stays on a Service that has got a class before a controller saw it without:
	// see TestFinalizerOfAClass.
	left := slices.DeleteFunc(slices.Clone(s.Finalizers), func(f string) bool {
		return f == "example.com/keep" || f == v1alpha1.FinalizerClassless && class != ""
	})
	condition := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionAddressAssigned)
	ingress := len(s.Status.LoadBalancer.Ingress)
	var held []string
	for _, a := range m.api.Records() {
		if m.holds(s, a.Spec.Address) {
			held = append(held, a.Spec.Address)
		}
	}
	switch {
	// A backup may have brought one back, which goes when the Service is deleted or a
	// controller begins to lead.
	case !(m.restored && s.DeletionTimestamp == nil) && len(left) > 0:
		t.Fatalf("%s has the finalizers %v:\n%s", s.Name, s.Finalizers, m)
	case !ours && (ingress > 0 || condition != nil || len(held) > 0):
		t.Fatalf("%s is not ours and has %d addresses, %v on record, condition %v:\n%s", s.Name, ingress, held, condition, m)
	case ours && (condition == nil || (condition.Status == metav1.ConditionTrue) != (len(held) > 0)):
		t.Fatalf("%s holds %v and says %v:\n%s", s.Name, held, condition, m)
	case ours && len(m.api.Pools()) == 0 && len(held) == 0:
		// Without any pool, a status without a record stays for the first pool to adopt.
	case ours && (ingress != len(held) || ingress > 1 || ingress == 1 && s.Status.LoadBalancer.Ingress[0].IP != held[0]):
		t.Fatalf("%s holds %v and has %v in its status:\n%s", s.Name, held, s.Status.LoadBalancer.Ingress, m)
	}
}

func classOf(s *corev1.Service) string {
	if s.Spec.LoadBalancerClass == nil {
		return ""
	}
	return *s.Spec.LoadBalancerClass
}

func (m *model) String() string {
	var b strings.Builder
	for _, s := range m.api.Services() {
		fmt.Fprintf(&b, "service %s uid=%s version=%s type=%s class=%s deleting=%v finalizers=%v notes=%v status=%v", s.Name, s.UID, s.ResourceVersion, s.Spec.Type,
			classOf(s), s.DeletionTimestamp != nil, s.Finalizers, s.Annotations, ips(s))
		for _, c := range s.Status.Conditions {
			fmt.Fprintf(&b, " %s=%s/%s", c.Type, c.Status, c.Reason)
		}
		b.WriteString("\n")
	}
	for _, a := range m.api.Records() {
		fmt.Fprintf(&b, "record %s version=%s pool=%s", a.Name, a.ResourceVersion, a.Spec.Pool)
		for _, h := range a.Spec.Holders {
			fmt.Fprintf(&b, " %s", h.UID)
		}
		b.WriteString("\n")
	}
	for _, p := range m.api.Pools() {
		fmt.Fprintf(&b, "pool %s %v\n", p.Name, p.Spec.Addresses)
	}
	return b.String()
}
