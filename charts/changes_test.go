package charts_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// changes says all that a value set changes in the objects of the default render.
// Below each object are the fields that are gone (-) and new (+). An element of a
// list goes by its name; without a name it is one value. Labels and annotations are
// one value. container is the only container of a pod.
var changes = map[string]string{
	"accelerated": `
ClusterRole/fairlead-agent
  + rules[] {"apiGroups":[""],"resources":["pods"],"verbs":["list","watch"]}
DaemonSet/fairlead-agent
  - container.args[] "--accelerate=off"
  + container.args[] "--accelerate=auto"
  + container.args[] "--cgroup=/host/sys/fs/cgroup"
  + container.securityContext.capabilities.add[] "BPF"
  + container.securityContext.capabilities.add[] "SYS_ADMIN"
  + container.volumeMounts[bpf].mountPath "/sys/fs/bpf"
  + container.volumeMounts[bpf].name "bpf"
  + container.volumeMounts[cgroup].mountPath "/host/sys/fs/cgroup"
  + container.volumeMounts[cgroup].name "cgroup"
  + container.volumeMounts[cgroup].readOnly true
  + container.volumeMounts[netns].mountPath "/run/netns"
  + container.volumeMounts[netns].mountPropagation "HostToContainer"
  + container.volumeMounts[netns].name "netns"
  + spec.template.spec.volumes[bpf].hostPath.path "/sys/fs/bpf"
  + spec.template.spec.volumes[bpf].hostPath.type "Directory"
  + spec.template.spec.volumes[bpf].name "bpf"
  + spec.template.spec.volumes[cgroup].hostPath.path "/sys/fs/cgroup"
  + spec.template.spec.volumes[cgroup].hostPath.type "Directory"
  + spec.template.spec.volumes[cgroup].name "cgroup"
  + spec.template.spec.volumes[netns].hostPath.path "/run/netns"
  + spec.template.spec.volumes[netns].hostPath.type "DirectoryOrCreate"
  + spec.template.spec.volumes[netns].name "netns"
`,
	"directed": `
DaemonSet/fairlead-agent
  + container.args[] "--director=auto"
  + container.securityContext.capabilities.add[] "BPF"
  + container.securityContext.capabilities.add[] "SYS_ADMIN"
  + container.volumeMounts[bpf].mountPath "/sys/fs/bpf"
  + container.volumeMounts[bpf].name "bpf"
  + spec.template.spec.volumes[bpf].hostPath.path "/sys/fs/bpf"
  + spec.template.spec.volumes[bpf].hostPath.type "Directory"
  + spec.template.spec.volumes[bpf].name "bpf"
`,
	"ccm": `
ClusterRole/fairlead-controller
  + rules[] {"apiGroups":["authentication.k8s.io"],"resources":["tokenreviews"],"verbs":["create"]}
  + rules[] {"apiGroups":["authorization.k8s.io"],"resources":["subjectaccessreviews"],"verbs":["create"]}
  + rules[] {"apiGroups":[""],"resources":["nodes"],"verbs":["patch","update"]}
  + rules[] {"apiGroups":[""],"resources":["nodes/status"],"verbs":["patch"]}
ClusterRole/fairlead-support
  - rules[] {"apiGroups":["coordination.k8s.io"],"resourceNames":["fairlead-controller"],"resources":["leases"],"verbs":["get"]}
  + rules[] {"apiGroups":["coordination.k8s.io"],"resourceNames":["fairlead-ccm"],"resources":["leases"],"verbs":["get"]}
ConfigMap/fairlead-history is gone
DaemonSet/fairlead-agent
  + container.args[] "--api-servers=https://192.0.2.11:6443,https://192.0.2.12:6443"
Deployment/fairlead-controller
  - spec.template.metadata.annotations {"kubectl.kubernetes.io/default-container":"controller","prometheus.io/path":"/metrics","prometheus.io/port":"9810","prometheus.io/scheme":"http","prometheus.io/scrape":"true"}
  - container.args[] "controller"
  - container.args[] "--default-class=true"
  - container.args[] "--class=fairlead.io/lb"
  - container.args[] "--leader-elect-namespace=$(POD_NAMESPACE)"
  - container.args[] "--health-address=:9811"
  - container.args[] "--metrics-address=:9810"
  - container.args[] "--log-level=info"
  - container.command[] "/fairlead"
  - container.livenessProbe.httpGet.port "health"
  - container.name "controller"
  - container.ports[health].containerPort 9811
  - container.ports[health].name "health"
  - container.readinessProbe.httpGet.path "/readyz"
  - container.readinessProbe.httpGet.port "health"
  - container.startupProbe.httpGet.port "health"
  + spec.template.metadata.annotations {"kubectl.kubernetes.io/default-container":"ccm","prometheus.io/path":"/metrics","prometheus.io/port":"9810","prometheus.io/scheme":"https","prometheus.io/scrape":"true"}
  + container.args[] "--leader-elect-resource-namespace=$(POD_NAMESPACE)"
  + container.args[] "--secure-port=9810"
  + container.args[] "--authorization-always-allow-paths=/healthz,/metrics"
  + container.args[] "--initialize-nodes"
  + container.args[] "--api-servers=https://192.0.2.11:6443,https://192.0.2.12:6443"
  + container.command[] "/fairlead-ccm"
  + container.livenessProbe.httpGet.port "metrics"
  + container.livenessProbe.httpGet.scheme "HTTPS"
  + container.name "ccm"
  + container.readinessProbe.httpGet.path "/healthz"
  + container.readinessProbe.httpGet.port "metrics"
  + container.readinessProbe.httpGet.scheme "HTTPS"
  + container.startupProbe.httpGet.port "metrics"
  + container.startupProbe.httpGet.scheme "HTTPS"
  + spec.template.spec.tolerations[] {"effect":"NoSchedule","key":"node.cloudprovider.kubernetes.io/uninitialized","operator":"Exists"}
Role/fairlead-controller
  - rules[] {"apiGroups":["coordination.k8s.io"],"resourceNames":["fairlead-controller"],"resources":["leases"],"verbs":["get","update"]}
  - rules[] {"apiGroups":[""],"resourceNames":["fairlead-history"],"resources":["configmaps"],"verbs":["get","update"]}
  + rules[] {"apiGroups":["coordination.k8s.io"],"resourceNames":["fairlead-ccm"],"resources":["leases"],"verbs":["get","update"]}
`,
	"monitored": `
ConfigMap/fairlead-dashboards is new
  + apiVersion "v1"
  + kind "ConfigMap"
  + metadata.annotations {"grafana_folder":"Network"}
  + metadata.labels {"app.kubernetes.io/instance":"fairlead","app.kubernetes.io/managed-by":"Helm","app.kubernetes.io/name":"fairlead","app.kubernetes.io/part-of":"fairlead","app.kubernetes.io/version":"VERSION","grafana_dashboard":"1","helm.sh/chart":"fairlead-VERSION"}
  + metadata.name "fairlead-dashboards"
  + metadata.namespace "fairlead-system"
DaemonSet/fairlead-agent
  - container.args[] "--metrics-address=127.0.0.1:10249"
  + container.args[] "--metrics-address=0.0.0.0:10249"
  + container.args[] "--api-servers=https://192.0.2.11:6443"
Deployment/fairlead-controller
  - spec.template.metadata.annotations {"kubectl.kubernetes.io/default-container":"controller","prometheus.io/path":"/metrics","prometheus.io/port":"9810","prometheus.io/scheme":"http","prometheus.io/scrape":"true"}
  + spec.template.metadata.annotations {"kubectl.kubernetes.io/default-container":"controller"}
  + container.args[] "--api-servers=https://192.0.2.11:6443"
PrometheusRule/fairlead is new
  + apiVersion "monitoring.coreos.com/v1"
  + kind "PrometheusRule"
  + metadata.labels {"app.kubernetes.io/instance":"fairlead","app.kubernetes.io/managed-by":"Helm","app.kubernetes.io/name":"fairlead","app.kubernetes.io/part-of":"fairlead","app.kubernetes.io/version":"VERSION","helm.sh/chart":"fairlead-VERSION","release":"prometheus"}
  + metadata.name "fairlead"
  + metadata.namespace "fairlead-system"
Service/fairlead-agent-metrics is new
  + apiVersion "v1"
  + kind "Service"
  + metadata.labels {"app.kubernetes.io/component":"agent","app.kubernetes.io/instance":"fairlead","app.kubernetes.io/managed-by":"Helm","app.kubernetes.io/name":"fairlead","app.kubernetes.io/part-of":"fairlead","app.kubernetes.io/version":"VERSION","helm.sh/chart":"fairlead-VERSION"}
  + metadata.name "fairlead-agent-metrics"
  + metadata.namespace "fairlead-system"
  + spec.clusterIP "None"
  + spec.ports[metrics].name "metrics"
  + spec.ports[metrics].port 10249
  + spec.ports[metrics].targetPort "metrics"
  + spec.selector {"app.kubernetes.io/component":"agent","app.kubernetes.io/instance":"fairlead","app.kubernetes.io/name":"fairlead"}
ServiceMonitor/fairlead-agent is new
  + apiVersion "monitoring.coreos.com/v1"
  + kind "ServiceMonitor"
  + metadata.labels {"app.kubernetes.io/component":"agent","app.kubernetes.io/instance":"fairlead","app.kubernetes.io/managed-by":"Helm","app.kubernetes.io/name":"fairlead","app.kubernetes.io/part-of":"fairlead","app.kubernetes.io/version":"VERSION","helm.sh/chart":"fairlead-VERSION","release":"prometheus"}
  + metadata.name "fairlead-agent"
  + metadata.namespace "fairlead-system"
  + spec.endpoints[] {"port":"metrics","relabelings":[{"sourceLabels":["__meta_kubernetes_pod_node_name"],"targetLabel":"instance"}]}
  + spec.selector {"matchLabels":{"app.kubernetes.io/component":"agent","app.kubernetes.io/instance":"fairlead","app.kubernetes.io/name":"fairlead"}}
ServiceMonitor/fairlead-controller is new
  + apiVersion "monitoring.coreos.com/v1"
  + kind "ServiceMonitor"
  + metadata.labels {"app.kubernetes.io/component":"controller","app.kubernetes.io/instance":"fairlead","app.kubernetes.io/managed-by":"Helm","app.kubernetes.io/name":"fairlead","app.kubernetes.io/part-of":"fairlead","app.kubernetes.io/version":"VERSION","helm.sh/chart":"fairlead-VERSION","release":"prometheus"}
  + metadata.name "fairlead-controller"
  + metadata.namespace "fairlead-system"
  + spec.endpoints[] {"port":"metrics","relabelings":[{"sourceLabels":["__meta_kubernetes_pod_name"],"targetLabel":"instance"}]}
  + spec.selector {"matchLabels":{"app.kubernetes.io/component":"controller","app.kubernetes.io/instance":"fairlead","app.kubernetes.io/name":"fairlead"}}
`,
	"page": `
ClusterRole/fairlead-controller
  + rules[] {"apiGroups":["apps"],"resources":["daemonsets","deployments"],"verbs":["list"]}
  + rules[] {"apiGroups":["authentication.k8s.io"],"resources":["tokenreviews"],"verbs":["create"]}
  + rules[] {"apiGroups":["authorization.k8s.io"],"resources":["subjectaccessreviews"],"verbs":["create"]}
Deployment/fairlead-controller
  + container.args[] "--page-address=:9443"
  + container.args[] "--page-hosts=fairlead-controller-page.fairlead-system.svc,fairlead.example.com"
  + container.args[] "--page-certificate=fairlead-page-tls"
  + container.ports[page].containerPort 9443
  + container.ports[page].name "page"
NetworkPolicy/fairlead-controller is new
  + apiVersion "networking.k8s.io/v1"
  + kind "NetworkPolicy"
  + metadata.labels {"app.kubernetes.io/component":"controller","app.kubernetes.io/instance":"fairlead","app.kubernetes.io/managed-by":"Helm","app.kubernetes.io/name":"fairlead","app.kubernetes.io/part-of":"fairlead","app.kubernetes.io/version":"VERSION","helm.sh/chart":"fairlead-VERSION"}
  + metadata.name "fairlead-controller"
  + metadata.namespace "fairlead-system"
  + spec.egress[] {"ports":[{"port":16443},{"port":443},{"port":6443},{"port":8443}]}
  + spec.egress[] {"ports":[{"port":53,"protocol":"UDP"},{"port":53}]}
  + spec.ingress[] {"ports":[{"port":"metrics"}]}
  + spec.ingress[] {"ports":[{"port":"health"}]}
  + spec.ingress[] {"from":[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"ingress"}}}],"ports":[{"port":"page"}]}
  + spec.podSelector.matchLabels {"app.kubernetes.io/component":"controller","app.kubernetes.io/instance":"fairlead","app.kubernetes.io/name":"fairlead"}
  + spec.policyTypes[] "Ingress"
  + spec.policyTypes[] "Egress"
Role/fairlead-controller
  + rules[] {"apiGroups":[""],"resources":["pods"],"verbs":["list","watch"]}
  + rules[] {"apiGroups":[""],"resourceNames":["fairlead-page-tls"],"resources":["secrets"],"verbs":["get"]}
Role/kube-system/fairlead-controller is new
  + apiVersion "rbac.authorization.k8s.io/v1"
  + kind "Role"
  + metadata.labels {"app.kubernetes.io/component":"controller","app.kubernetes.io/instance":"fairlead","app.kubernetes.io/managed-by":"Helm","app.kubernetes.io/name":"fairlead","app.kubernetes.io/part-of":"fairlead","app.kubernetes.io/version":"VERSION","helm.sh/chart":"fairlead-VERSION"}
  + metadata.name "fairlead-controller"
  + metadata.namespace "kube-system"
  + rules[] {"apiGroups":[""],"resourceNames":["kube-proxy"],"resources":["configmaps"],"verbs":["get"]}
RoleBinding/kube-system/fairlead-controller is new
  + apiVersion "rbac.authorization.k8s.io/v1"
  + kind "RoleBinding"
  + metadata.labels {"app.kubernetes.io/component":"controller","app.kubernetes.io/instance":"fairlead","app.kubernetes.io/managed-by":"Helm","app.kubernetes.io/name":"fairlead","app.kubernetes.io/part-of":"fairlead","app.kubernetes.io/version":"VERSION","helm.sh/chart":"fairlead-VERSION"}
  + metadata.name "fairlead-controller"
  + metadata.namespace "kube-system"
  + roleRef.apiGroup "rbac.authorization.k8s.io"
  + roleRef.kind "Role"
  + roleRef.name "fairlead-controller"
  + subjects[fairlead-controller].kind "ServiceAccount"
  + subjects[fairlead-controller].name "fairlead-controller"
  + subjects[fairlead-controller].namespace "fairlead-system"
Service/fairlead-controller-page is new
  + apiVersion "v1"
  + kind "Service"
  + metadata.labels {"app.kubernetes.io/component":"controller","app.kubernetes.io/instance":"fairlead","app.kubernetes.io/managed-by":"Helm","app.kubernetes.io/name":"fairlead","app.kubernetes.io/part-of":"fairlead","app.kubernetes.io/version":"VERSION","helm.sh/chart":"fairlead-VERSION"}
  + metadata.name "fairlead-controller-page"
  + metadata.namespace "fairlead-system"
  + spec.ports[https].appProtocol "https"
  + spec.ports[https].name "https"
  + spec.ports[https].port 443
  + spec.ports[https].targetPort "page"
  + spec.selector {"app.kubernetes.io/component":"controller","app.kubernetes.io/instance":"fairlead","app.kubernetes.io/name":"fairlead"}
`,
	"small": `
DaemonSet/fairlead-agent
  - container.resources.limits.memory "512Mi"
  - container.resources.requests.cpu "50m"
  - container.resources.requests.memory "64Mi"
  - spec.template.spec.nodeSelector {"kubernetes.io/os":"linux"}
  - spec.template.spec.priorityClassName "system-node-critical"
  - spec.template.spec.tolerations[] {"operator":"Exists"}
Deployment/fairlead-controller
  - spec.replicas 2
  - container.resources.limits.memory "512Mi"
  - container.resources.requests.cpu "20m"
  - container.resources.requests.memory "64Mi"
  - spec.template.spec.nodeSelector {"kubernetes.io/os":"linux"}
  - spec.template.spec.priorityClassName "system-cluster-critical"
  - spec.template.spec.tolerations[] {"effect":"NoSchedule","key":"node-role.kubernetes.io/control-plane","operator":"Exists"}
  + spec.replicas 1
PodDisruptionBudget/fairlead-controller is gone
`,
	"standalone": `
DaemonSet/fairlead-agent
  - spec.template.metadata.annotations {"kubectl.kubernetes.io/default-container":"agent"}
  - container.args[] "--metrics-address=127.0.0.1:10249"
  - container.image "ghcr.io/fairlead/fairlead:VERSION"
  + spec.template.metadata.annotations {"kubectl.kubernetes.io/default-container":"agent","prometheus.io/path":"/metrics","prometheus.io/port":"10249","prometheus.io/scheme":"http","prometheus.io/scrape":"true"}
  + container.args[] "--metrics-address=0.0.0.0:10249"
  + container.args[] "--api-servers=https://192.0.2.11:6444,https://192.0.2.12:6444"
  + container.image "ghcr.io/fairlead/fairlead@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
Deployment/fairlead-controller
  - container.image "ghcr.io/fairlead/fairlead:VERSION"
  + container.args[] "--api-servers=https://192.0.2.11:6444,https://192.0.2.12:6444"
  + container.image "ghcr.io/fairlead/fairlead@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
Role/fairlead-agent
  + rules[] {"apiGroups":[""],"resourceNames":["router-password"],"resources":["secrets"],"verbs":["get"]}
Service/fairlead-agent-metrics is new
  + apiVersion "v1"
  + kind "Service"
  + metadata.labels {"app.kubernetes.io/component":"agent","app.kubernetes.io/instance":"fairlead","app.kubernetes.io/managed-by":"Helm","app.kubernetes.io/name":"fairlead","app.kubernetes.io/part-of":"fairlead","app.kubernetes.io/version":"VERSION","helm.sh/chart":"fairlead-VERSION"}
  + metadata.name "fairlead-agent-metrics"
  + metadata.namespace "fairlead-system"
  + spec.clusterIP "None"
  + spec.ports[metrics].name "metrics"
  + spec.ports[metrics].port 10249
  + spec.ports[metrics].targetPort "metrics"
  + spec.selector {"app.kubernetes.io/component":"agent","app.kubernetes.io/instance":"fairlead","app.kubernetes.io/name":"fairlead"}
`,
}

// elsewhere are fields that TestMonitoring compares with the chart's files.
var elsewhere = []string{"PrometheusRule spec", "ConfigMap data"}

// TestChanges: each value set changes what its row says and nothing else. With the
// golden file of the default render this pins the whole render of every set.
func TestChanges(t *testing.T) {
	before := fields(t, "default")
	for _, set := range valueSets(t) {
		if slices.Contains(goldenSets, set) {
			continue
		}
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			got, want := differences(before, fields(t, set)), strings.TrimPrefix(changes[set], "\n")
			if got != want {
				t.Errorf("%s\nit changes:\n%s", firstDifference(got, want), got)
			}
		})
	}
}

// fields returns the fields of each rendered object but CRDs, by "Kind/name", or
// "Kind/namespace/name" outside the release's namespace.
func fields(t *testing.T, set string) map[string][]string {
	t.Helper()
	_, docs := render(t, set)
	out := map[string][]string{}
	for _, doc := range docs {
		doc = strings.ReplaceAll(doc, version(t), "VERSION") // a release changes no row
		var object unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(doc), &object.Object); err != nil {
			t.Fatal(err)
		}
		id := object.GetKind() + "/" + object.GetName()
		if ns := object.GetNamespace(); ns != "" && ns != "fairlead-system" {
			id = object.GetKind() + "/" + ns + "/" + object.GetName()
		}
		for _, key := range slices.Sorted(maps.Keys(object.Object)) {
			if !slices.Contains(elsewhere, object.GetKind()+" "+key) {
				out[id] = append(out[id], flatten(t, key, object.Object[key])...)
			}
		}
	}
	return out
}

// version returns the appVersion of the chart.
func version(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(chart, "Chart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var c struct{ AppVersion string }
	if err := yaml.Unmarshal(data, &c); err != nil || c.AppVersion == "" {
		t.Fatalf("the chart has the appVersion %q: %v", c.AppVersion, err)
	}
	return c.AppVersion
}

var (
	whole     = regexp.MustCompile(`\.(labels|annotations|matchLabels|selector|nodeSelector)$`)
	container = regexp.MustCompile(`^spec\.(template\.spec\.)?containers$`)
)

// flatten returns one line for each value below path.
func flatten(t *testing.T, path string, value any) (lines []string) {
	t.Helper()
	fields, isMap := value.(map[string]any)
	elements, isList := value.([]any)
	switch {
	case container.MatchString(path) && len(elements) == 1:
		return flatten(t, "container", elements[0]) // by its name, a new name would change every field
	case isMap && len(fields) > 0 && !whole.MatchString(path):
		for _, key := range slices.Sorted(maps.Keys(fields)) {
			lines = append(lines, flatten(t, path+"."+key, fields[key])...)
		}
	case isList && len(elements) > 0:
		for _, element := range elements {
			if m, ok := element.(map[string]any); ok && m["name"] != nil {
				lines = append(lines, flatten(t, fmt.Sprintf("%s[%v]", path, m["name"]), element)...)
				continue
			}
			lines = append(lines, leaf(t, path+"[]", element))
		}
	default:
		lines = append(lines, leaf(t, path, value))
	}
	return lines
}

func leaf(t *testing.T, path string, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return path + " " + string(text)
}

// differences returns what is gone and what is new, object by object.
func differences(before, after map[string][]string) string {
	var out strings.Builder
	ids := maps.Clone(before)
	maps.Copy(ids, after)
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		gone, added := without(before[id], after[id]), without(after[id], before[id])
		switch {
		case after[id] == nil:
			fmt.Fprintf(&out, "%s is gone\n", id)
			continue
		case before[id] == nil:
			fmt.Fprintf(&out, "%s is new\n", id)
		case len(gone)+len(added) > 0:
			fmt.Fprintln(&out, id)
		}
		for _, line := range gone {
			fmt.Fprintln(&out, "  -", line)
		}
		for _, line := range added {
			fmt.Fprintln(&out, "  +", line)
		}
	}
	return out.String()
}

// without returns the lines of a that b lacks. A line that is twice in a must be
// twice in b.
func without(a, b []string) (left []string) {
	b = slices.Clone(b)
	for _, line := range a {
		if i := slices.Index(b, line); i >= 0 {
			b = slices.Delete(b, i, i+1)
			continue
		}
		left = append(left, line)
	}
	return left
}
