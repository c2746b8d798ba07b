package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// explaining is one Explain under way.
type explaining struct {
	*cluster.State
	svc   *snapshot.Service
	plan  allocator.Outcome // of the Service
	ours  bool
	trace *Trace
	apart bool // its pods are elsewhere than the address: see parted
}

// Explain tells of the Service that ref names. ok is false if there is none.
func Explain(s *cluster.State, ref snapshot.Ref) (t *Trace, ok bool) {
	svc := s.Service(ref)
	if svc == nil {
		return nil, false
	}
	e := &explaining{State: s, svc: svc, ours: allocator.Ours(svc, s.Allocation), trace: &Trace{Service: ref}}
	if e.ours {
		for _, o := range allocator.Decide(s.Snapshot, s.Allocation).Services {
			if o.Ref == ref {
				e.plan = o
			}
		}
	}
	e.trace.Title = e.title()
	if e.kind(); e.trace.Failed() == nil {
		e.assignment()
		e.traffic()
	}
	e.conclude()
	return e.trace, true
}

func (e *explaining) title() string {
	parts := []string{e.svc.Ref.String(), string(e.svc.Type)}
	if held := addrs(e.plan.Addrs); held != "" {
		parts = append(parts, held)
	}
	return strings.Join(parts, "  ")
}

func (e *explaining) add(s Step) { e.trace.Steps = append(e.trace.Steps, s) }

func (e *explaining) ok(name, format string, args ...any) {
	e.add(Step{Name: name, Mark: OK, Text: fmt.Sprintf(format, args...)})
}

func (e *explaining) fail(name, next, format string, args ...any) {
	e.add(Step{Name: name, Mark: Failed, Next: next, Text: fmt.Sprintf(format, args...)})
}

func (e *explaining) note(name, format string, args ...any) {
	e.add(Step{Name: name, Mark: Note, Text: fmt.Sprintf(format, args...)})
}

// kind reports whether the Service is fairlead's at all. Nothing else matters if
// it is not.
func (e *explaining) kind() {
	svc := e.svc
	if svc.Type != snapshot.LoadBalancer {
		e.fail("type", e.kubectl("patch service %s --type=merge -p '{\"spec\":{\"type\":\"LoadBalancer\"}}'", svc.Name),
			"the Service is of type %s: only those of type LoadBalancer get an address", svc.Type)
		return
	}
	if svc.Headless {
		e.fail("type", "create the Service again without clusterIP: None", "the Service is headless: nothing forwards for it")
		return
	}
	e.ok("type", "LoadBalancer")
	switch {
	case svc.Class == "" && e.ours:
		e.ok("class", "none: the controller serves Services without a loadBalancerClass too")
	case e.ours:
		e.ok("class", "%s, which is fairlead's", svc.Class)
	case svc.Class == "":
		e.fail("class", "create the Service again with spec.loadBalancerClass: "+e.Allocation.Class+" (Kubernetes does not let it be added later), or install fairlead with defaultClass: true",
			"none, and the controller serves only Services with the loadBalancerClass %s", e.Allocation.Class)
	default:
		e.fail("class", "ask those who serve the class "+svc.Class+", or create the Service again with spec.loadBalancerClass: "+e.Allocation.Class+" (Kubernetes does not let it be changed)",
			"%s is another load balancer's: fairlead serves %s", svc.Class, e.Allocation.Class)
	}
}

// conclude says in a sentence what comes of it all, and the one thing to do.
func (e *explaining) conclude() {
	t := e.trace
	if f := t.Failed(); f != nil {
		t.Verdict, t.Next = fmt.Sprintf("%s cannot be reached from outside: see %s.", e.svc.Ref, f.Name), f.Next
		if e.serves() {
			t.Verdict = fmt.Sprintf("%s can be reached, but something is wrong: see %s.", e.svc.Ref, f.Name)
		}
		return
	}
	if e.FromFiles {
		t.Verdict, t.Next = fmt.Sprintf("%s would hold %s.", e.svc.Ref, addrs(e.plan.Addrs)), "apply the manifests"
		return
	}
	t.Verdict = fmt.Sprintf("%s is reached at %s.", e.svc.Ref, addrs(e.plan.Addrs))
	t.Next = "nothing. If a client gets no answer, follow its packets: fairlead trace --from CLIENT --to " + e.first()
}

// serves reports whether every address is announced and has an endpoint there.
func (e *explaining) serves() bool {
	for _, a := range e.plan.Addrs {
		if len(e.Announcers(a)) == 0 || len(e.count(a).ready) == 0 {
			return false
		}
	}
	return len(e.plan.Addrs) > 0 && !e.apart
}

func (e *explaining) first() string {
	if len(e.svc.Ports) == 0 || len(e.plan.Addrs) == 0 {
		return "VIP:PORT"
	}
	p := e.svc.Ports[0]
	to := netip.AddrPortFrom(e.plan.Addrs[0], p.Port).String()
	if p.Protocol != snapshot.TCP {
		to += "/" + p.Protocol.String()
	}
	return to
}

// kubectl is a command about the Service's namespace.
func (e *explaining) kubectl(format string, args ...any) string {
	return fmt.Sprintf("kubectl -n %s ", e.svc.Namespace) + fmt.Sprintf(format, args...)
}

func addrs(list []netip.Addr) string {
	texts := make([]string, len(list))
	for i, a := range list {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
