package stories

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
)

// ofNodes are a pool of the nodes' own addresses, and Services that ask for it.
const ofNodes = `apiVersion: fairlead.io/v1alpha1
kind: AddressPool
metadata: {name: nodes}
spec: {autoAssign: false, nodeAddresses: {}}
---
apiVersion: v1
kind: Service
metadata: {name: at-nodes, annotations: {fairlead.io/pool: nodes}}
spec: {type: LoadBalancer, ipFamilyPolicy: PreferDualStack, selector: {app: web}, ports: [{name: web, port: 8088, targetPort: 8080}, {name: taken, port: 8099, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: ssh-of-nodes, annotations: {fairlead.io/pool: nodes}}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 22, targetPort: 8080}]}
`

// listens is a process of a node, with a port that a Service wants too.
const listens = `apiVersion: v1
kind: Pod
metadata: {name: listens}
spec:
  nodeName: %s
  hostNetwork: true
  containers:
  - {name: listens, image: "ghcr.io/fairlead/hello:dev", imagePullPolicy: IfNotPresent, args: ["--http=8099"], env: [{name: NODE_NAME, value: listens}]}
`

// A client outside reaches a Service at each node's own address. A process that listens on
// a node keeps its port, and the Service says so; a port such as that of SSH is refused.
// "make e2e WHAT=nodes" runs it.
func TestServiceHasTheNodesOwnAddresses(t *testing.T) {
	l := cluster(t)
	if os.Getenv("FAIRLEAD_E2E_ALL") == "" {
		t.Skip("make e2e WHAT=nodes runs it")
	}
	web(t)
	held := l.Nodes()[0]
	apply(t, fmt.Sprintf(listens, held))
	kubectl(t, "wait", "--for=condition=Ready", "pod/listens", "--timeout=60s")
	apply(t, ofNodes)
	for _, n := range l.Nodes() {
		for _, own := range []string{l.NodeAddress(n), l.NodeAddress6(n)} {
			answersTo(t, lab.Client, demo.URL(own, 8088), demo.Replicas)
		}
	}
	out := kubectl(t, "get", "service", "at-nodes", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")
	if got, want := len(strings.Fields(out)), 2*len(l.Nodes()); got != want {
		t.Errorf("the status names %q, want %d addresses", out, want)
	}
	eventually(t, settled, "the process that listens to keep its port", func(ctx context.Context) error {
		return saysOf(ctx, "service/at-nodes", "fairlead.io/NodePorts", "False", "PortOfNode", "8099/tcp")
	})
	if out, err := get(t.Context(), l, lab.Client, demo.URL(l.NodeAddress(held), 8099)); err != nil || !strings.Contains(out, "listens") {
		t.Errorf("at the port of a process of the node answers %q, %v", out, err)
	}
	answersTo(t, lab.Client, demo.URL(l.NodeAddress(l.Nodes()[1]), 8099), demo.Replicas)
	eventually(t, settled, "SSH to be refused", func(ctx context.Context) error {
		return saysOf(ctx, "service/ssh-of-nodes", "fairlead.io/AddressAssigned", "False", "PortOfNode", "SSH")
	})
	kubectl(t, "delete", "service", "at-nodes")
	eventually(t, settled, "the nodes' addresses to be free", func(ctx context.Context) error {
		if _, err := get(ctx, l, lab.Client, demo.URL(l.NodeAddress(held), 8088)); err == nil {
			return errors.New("the Service that is gone still answers")
		}
		records, err := l.Kubectl(ctx, "get", "addresses.fairlead.io", "-o", "jsonpath={.items[*].spec.node}")
		if err == nil && len(records) > 0 {
			err = fmt.Errorf("records of nodes' addresses are left: %s", records)
		}
		return err
	})
}
