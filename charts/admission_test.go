package charts_test

import (
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// TestAdmission: the policies are there from Kubernetes 1.30 on, and a value turns each
// of them off. Before that the chart leaves them out and says so.
func TestAdmission(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ version, set, want string }{
		{"1.30.0", "x=", "fairlead-nodestates Deny, fairlead-annotations Warn"},
		{"1.29.9", "x=", ""},
		{"1.30.0", "admission.annotations=Deny", "fairlead-nodestates Deny, fairlead-annotations Deny"},
		{"1.30.0", "admission.annotations=", "fairlead-nodestates Deny"},
		{"1.31.0", "admission.endpoints={198.51.100.0/24,2001:db8::/64}", "fairlead-nodestates Deny, fairlead-annotations Warn, fairlead-endpoints Deny"},
		{"1.30.0", "admission.nodeStates=false", "fairlead-annotations Warn"},
	} {
		out := mustHelm(t, "template", "fairlead", chart, "--namespace", "fairlead-system", "--kube-version", tc.version, "--set", strings.Replace(tc.set, "x=", "crds.install=true", 1))
		objects := policies(t, out)
		var got []string
		for _, b := range pick[*admissionv1.ValidatingAdmissionPolicyBinding](objects) {
			got = append(got, b.Spec.PolicyName+" "+string(b.Spec.ValidationActions[0]))
		}
		if n := len(pick[*admissionv1.ValidatingAdmissionPolicy](objects)); n != len(got) {
			t.Errorf("%v: %d policies, %d bindings", tc, n, len(got))
		}
		if text := strings.Join(got, ", "); text != tc.want {
			t.Errorf("%v: %s", tc, text)
		}
	}
}

// TestAdmissionKnowsAnnotations: no Service is warned of an annotation that fairlead reads.
func TestAdmissionKnowsAnnotations(t *testing.T) {
	t.Parallel()
	out := mustHelm(t, "template", "fairlead", chart, "--namespace", "fairlead-system", "--kube-version", "1.30.0")
	for _, p := range pick[*admissionv1.ValidatingAdmissionPolicy](policies(t, out)) {
		if p.Name != "fairlead-annotations" {
			continue
		}
		known := p.Spec.Variables[0].Expression
		for _, name := range []string{
			v1alpha1.AnnotationAddresses, v1alpha1.AnnotationForwarding, v1alpha1.AnnotationPool, v1alpha1.AnnotationPorts,
			v1alpha1.AnnotationShareKey, v1alpha1.AnnotationShareNamespaces,
		} {
			if _, short, _ := strings.Cut(name, "/"); !strings.Contains(known, "'"+short+"'") {
				t.Errorf("%s is not in %s", name, known)
			}
		}
		return
	}
	t.Error("there is no policy for annotations")
}

// policies are the objects of admission.yaml in what Helm printed.
func policies(t *testing.T, out string) []runtime.Object {
	t.Helper()
	var docs []string
	for _, doc := range documents(out) {
		if strings.HasPrefix(doc, "# Source: fairlead/templates/admission.yaml\n") {
			docs = append(docs, doc)
		}
	}
	return decode(t, docs)
}
