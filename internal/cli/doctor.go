package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/doctor"
	"github.com/fairlead/fairlead/internal/cli/manifest"
	"github.com/fairlead/fairlead/internal/cli/render"
	"github.com/fairlead/fairlead/internal/cli/survey"
	"github.com/fairlead/fairlead/internal/plain"
)

// examine is what doctor is asked for.
type examine struct {
	files  []string
	here   bool
	change bool
	name   string
	sysctl string
}

func (e *Env) doctor() *cobra.Command {
	var x examine
	cmd := &cobra.Command{
		Use: "doctor [-f FILE...] [--node] [--change-over]", Args: cobra.NoArgs,
		Short: "Find what is wrong with the cluster, with manifests or with this node",
		Long: `doctor looks for what keeps Services from being reached, or may do so after the
next fault. Without a flag it asks the cluster through the API server. With -f it
reads manifests, before they are applied, and needs no cluster. With --node it looks
at the machine that it runs on: its kernel, settings, links and ports; run it there
as root. With --change-over it also says what will be different when fairlead
forwards in place of kube-proxy. With --namespace it leaves out what concerns Services of other namespaces.
Every finding has a code that docs/troubleshooting.md explains. It exits with 0 if
there is no problem, 1 if there is one, and 2 if it could not look.`,
		Example: `  fairlead doctor
  fairlead doctor -f manifests/
  fairlead doctor --change-over
  fairlead doctor --node`,
	}
	f := cmd.Flags()
	f.StringArrayVarP(&x.files, "filename", "f", nil, "file, folder or pattern of manifests to look at instead of the cluster, -: standard input; may be given more than once")
	f.BoolVar(&x.here, "node", false, "look at this machine instead of the cluster")
	f.StringVar(&x.name, "node-name", os.Getenv("NODE_NAME"), "with --node: this node's name in Kubernetes; empty: its host name")
	f.StringVar(&x.sysctl, "sysctl-dir", "/proc/sys", "with --node: where the kernel's settings are")
	f.BoolVar(&x.change, "change-over", false, "say too what will be different when fairlead forwards in place of kube-proxy")
	cmd.MarkFlagsMutuallyExclusive("filename", "node", "change-over")
	out := e.outputFlag(cmd, true)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		found, err := e.examine(cmd.Context(), x)
		if err != nil {
			return blind(err)
		}
		findings := found.Findings
		if len(x.files) == 0 { // in files, the flag is the namespace of objects that name none
			findings = doctor.In(findings, e.asked())
		}
		found.Findings = append([]doctor.Finding{}, findings...)
		err = out.print(e.Out, "Diagnosis", found, findings, func() {
			s := e.screen()
			s.findings(findings)
			for _, line := range doctor.Found(found.LocalPods) {
				s.line("%s", line)
			}
			s.line("%s", doctor.Summary(findings))
		})
		if err != nil {
			return blind(err)
		}
		return wrong(doctor.Bad(findings))
	}
	return cmd
}

// diagnosis is what doctor found.
type diagnosis struct {
	Findings  []doctor.Finding `json:"findings"`
	LocalPods []doctor.Pods    `json:"localPods,omitempty"`
}

func (e *Env) examine(ctx context.Context, x examine) (out diagnosis, err error) {
	switch {
	case len(x.files) > 0:
		out.Findings, err = e.examineFiles(x.files)
		return out, err
	case x.here:
		out.Findings, err = e.examineHost(ctx, x)
		return out, err
	}
	o, c, err := e.read(ctx)
	if err != nil {
		return out, err
	}
	o.ReadWorkloads(ctx, c.Dynamic)
	s := o.State()
	if err := permissions(ctx, c.Kube, s); err != nil {
		s.Gaps = append(s.Gaps, cluster.Gap{What: "the rights of fairlead's ServiceAccounts", Why: err.Error()})
	}
	findings := doctor.Cluster(s)
	if x.change {
		findings = append(findings, doctor.ChangeOver(s)...)
	}
	return diagnosis{findings, doctor.LocalPods(s)}, nil
}

// examineFiles looks at manifests as if they were a cluster's only objects.
func (e *Env) examineFiles(paths []string) ([]doctor.Finding, error) {
	m, err := manifest.Load(paths, e.In, e.namespace())
	if err != nil {
		return nil, err
	}
	for _, n := range m.Notes {
		fmt.Fprintln(e.Err, "not read:", plain.Text(fmt.Sprint(n)))
	}
	refused := make([]doctor.Rejected, len(m.Problems))
	for i, p := range m.Problems {
		refused[i] = doctor.Rejected(p)
	}
	return doctor.Files(stateOf(m), refused), nil
}

// stateOf makes a cluster of manifests.
func stateOf(m *manifest.Manifests) *cluster.State {
	return (&survey.Objects{All: render.Complete(m.Objects), FromFiles: true}).State()
}

// needed is what fairlead's accounts must be allowed, the parts without which
// nothing works.
var needed = []struct{ component, verb, group, resource, subresource string }{
	{"agent", "list", "", "services", ""},
	{"agent", "watch", "discovery.k8s.io", "endpointslices", ""},
	{"agent", "list", "", "nodes", ""},
	{"agent", "list", "fairlead.io", "addresses", ""},
	{"agent", "create", "fairlead.io", "nodestates", ""},
	{"agent", "update", "fairlead.io", "nodestates", "status"},
	{"controller", "patch", "", "services", ""},
	{"controller", "update", "", "services", "status"},
	{"controller", "create", "fairlead.io", "addresses", ""},
	{"controller", "delete", "fairlead.io", "addresses", ""},
	{"controller", "update", "fairlead.io", "addresspools", "status"},
	{"controller", "create", "", "events", ""},
}

// permissions asks the API server what the accounts of fairlead's pods may do.
func permissions(ctx context.Context, client kubernetes.Interface, s *cluster.State) error {
	accounts, err := accountsOf(ctx, client, s)
	if err != nil {
		return err
	}
	for _, n := range needed {
		account := accounts[n.component]
		if account == "" {
			continue
		}
		review, err := client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{
				User:   "system:serviceaccount:" + s.Namespace + ":" + account,
				Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + s.Namespace, "system:authenticated"},
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Verb: n.verb, Group: n.group, Resource: n.resource, Subresource: n.subresource,
				},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		if !review.Status.Allowed {
			what := n.resource
			if n.subresource != "" {
				what += "/" + n.subresource
			}
			s.Permissions = append(s.Permissions, cluster.Permission{Account: account, Verb: n.verb, Resource: what})
		}
	}
	return nil
}

// accountsOf returns the ServiceAccount of each component's pods.
func accountsOf(ctx context.Context, client kubernetes.Interface, s *cluster.State) (map[string]string, error) {
	pods, err := client.CoreV1().Pods(s.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/part-of=fairlead"})
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, p := range pods.Items {
		out[p.Labels["app.kubernetes.io/component"]] = p.Spec.ServiceAccountName
	}
	return out, nil
}
