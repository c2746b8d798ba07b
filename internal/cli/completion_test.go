package cli_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/fairlead/fairlead/internal/cli"
)

// TestCompletion: a shell is told names of the cluster, and the values of -o.
func TestCompletion(t *testing.T) {
	balancer := func(namespace, name, addr string) *corev1.Service {
		return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 53, Protocol: corev1.ProtocolUDP}}},
			Status:     corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: addr}}}},
		}
	}
	client := fake.NewSimpleClientset(balancer("shop", "web", "192.0.2.7"), balancer("dns", "dns", "2001:db8::7"),
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "inside"}}, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker-1"}})
	for _, tc := range []struct{ line, namespace, want string }{
		{"explain|", "", "dns/dns shop/web"},
		{"explain|sh", "", "shop/web"},
		{"explain|", "shop", "web"},
		{"explain|shop/web|", "", ""},
		{"trace|--to|", "", "[2001:db8::7]:53/udp 192.0.2.7:53/udp"},
		{"trace|--node|wo", "", "worker-1"},
		{"status|-o|", "", "wide name json yaml kyaml jsonpath jsonpath-as-json jsonpath-file"},
	} {
		t.Run(tc.line+tc.namespace, func(t *testing.T) {
			var out bytes.Buffer
			env := &cli.Env{Out: &out, Err: &out, Connect: func() (*cli.Client, error) { return &cli.Client{Kube: client}, nil }}
			env.Namespace = func() (string, bool, error) { return tc.namespace, tc.namespace != "", nil }
			root := &cobra.Command{Use: "fairlead"}
			root.AddCommand(env.Commands()...)
			root.SetArgs(append([]string{cobra.ShellCompNoDescRequestCmd}, strings.Split(tc.line, "|")...))
			root.SetOut(&out)
			root.SetErr(&bytes.Buffer{})
			if err := root.ExecuteContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			names, _, _ := strings.Cut(out.String(), ":4\n")
			if got := strings.Join(strings.Fields(names), " "); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}
