package charts_test

import (
	"testing"

	"github.com/google/cel-go/cel"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	semver "k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/cel/environment"
	"sigs.k8s.io/yaml"
)

// The policy of admission.endpoints refuses what a tenant writes, and not what Kubernetes
// does. Its expressions are evaluated as an API server of the oldest version that the
// chart has it for does.
func TestAdmissionOfEndpoints(t *testing.T) {
	t.Parallel()
	policy := endpointsPolicy(t)
	for name, tc := range map[string]struct {
		user, object string
		refused      bool
	}{
		"a tenant's pod":                 {"tenant", slice("10.1.1.7"), false},
		"a node":                         {"tenant", slice("10.1.1.7", "198.51.100.7"), true},
		"a node, by IPv6":                {"tenant", slice("2001:db8::7"), true},
		"a name":                         {"tenant", slice("node-1.example.com"), false},
		"no endpoints":                   {"tenant", "metadata: {name: web-1}", false},
		"Endpoints of a node":            {"tenant", "subsets: [{addresses: [{ip: 198.51.100.7}]}]", true},
		"Endpoints that are not ready":   {"tenant", "subsets: [{notReadyAddresses: [{ip: 198.51.100.7}]}]", true},
		"Endpoints of a pod":             {"tenant", "subsets: [{addresses: [{ip: 10.1.1.7}], notReadyAddresses: [{ip: 10.1.1.8}]}]", false},
		"a host-network pod's":           {"system:serviceaccount:kube-system:endpointslice-controller", slice("198.51.100.7"), false},
		"a controller of a tenant's own": {"system:serviceaccount:tenant:endpointslice-controller", slice("198.51.100.7"), true},
		"default/kubernetes":             {"system:apiserver", slice("198.51.100.7"), false},
	} {
		if got := policy.refuses(t, tc.user, tc.object); got != tc.refused {
			t.Errorf("%s: refused is %v", name, got)
		}
	}
}

// slice is an EndpointSlice with these addresses.
func slice(addrs ...string) string {
	out := "endpoints:\n"
	for _, a := range addrs {
		out += "- addresses: ['" + a + "']\n"
	}
	return out
}

// celPolicy evaluates a ValidatingAdmissionPolicy.
type celPolicy struct {
	env  *cel.Env
	spec admissionv1.ValidatingAdmissionPolicySpec
}

func endpointsPolicy(t *testing.T) celPolicy {
	t.Helper()
	out := mustHelm(t, "template", "fairlead", chart, "--kube-version", "1.31.0", "--set", "admission.endpoints={198.51.100.0/24,2001:db8::/64}")
	oldest := semver.MajorMinor(1, 30) // an API server compiles what the version before it has
	set, err := environment.MustBaseEnvSet(oldest).Extend(environment.VersionedOptions{
		IntroducedVersion: oldest,
		EnvOptions:        []cel.EnvOption{cel.Variable("object", cel.DynType), cel.Variable("request", cel.DynType), cel.Variable("variables", cel.DynType)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pick[*admissionv1.ValidatingAdmissionPolicy](policies(t, out)) {
		if p.Name == "fairlead-endpoints" {
			return celPolicy{set.NewExpressionsEnv(), p.Spec}
		}
	}
	t.Fatal("there is no policy")
	return celPolicy{}
}

func (p celPolicy) eval(t *testing.T, expression string, vars map[string]any) any {
	t.Helper()
	ast, issues := p.env.Compile(expression)
	if issues.Err() != nil {
		t.Fatal(issues.Err())
	}
	program, err := p.env.Program(ast)
	if err != nil {
		t.Fatal(err)
	}
	out, _, err := program.Eval(vars)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return out
}

func (p celPolicy) holds(t *testing.T, expression string, vars map[string]any) bool {
	t.Helper()
	out, ok := p.eval(t, expression, vars).(interface{ Value() any }).Value().(bool)
	if !ok {
		t.Fatalf("%s: no bool", expression)
	}
	return out
}

// refuses reports whether user may not write object.
func (p celPolicy) refuses(t *testing.T, user, object string) bool {
	t.Helper()
	var obj map[string]any
	if err := yaml.Unmarshal([]byte(object), &obj); err != nil {
		t.Fatal(err)
	}
	variables := map[string]any{}
	vars := map[string]any{"object": obj, "variables": variables, "request": map[string]any{"userInfo": map[string]any{"username": user}}}
	for _, c := range p.spec.MatchConditions {
		if !p.holds(t, c.Expression, vars) {
			return false
		}
	}
	for _, v := range p.spec.Variables {
		variables[v.Name] = p.eval(t, v.Expression, vars)
	}
	for _, v := range p.spec.Validations {
		if !p.holds(t, v.Expression, vars) {
			return true
		}
	}
	return false
}
