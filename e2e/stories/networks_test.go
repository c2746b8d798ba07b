package stories

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/lab"
)

// second is a pool of the second network, and a Service with an address of each family of it.
const second = `apiVersion: fairlead.io/v1alpha1
kind: AddressPool
metadata: {name: second}
spec: {addresses: [198.18.3.200/32, "fd98:18:3::200/128"], autoAssign: false}
---
apiVersion: v1
kind: Service
metadata:
  name: second
  annotations: {fairlead.io/pool: second}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  selector: {app: beside}
  ports: [{port: 80, targetPort: 8080}]
`

// The nodes have two networks, each with its router. A client behind the one that the
// nodes' default routes do not lead to reaches a VIP of that network: on the node that
// announces it and on others, with policy Local too. So do a pod, a node and a neighbour.
func TestTwoNetworks(t *testing.T) {
	if os.Getenv("FAIRLEAD_E2E_ALL") == "" {
		t.Skip("kernel tests show the same in less time: run it with make e2e WHAT=networks")
	}
	l := cluster(t)
	electable(t)
	undo(t, l.RemoveSecondNetwork)
	if err := l.AddSecondNetwork(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, six(t, "beside"))
	from := pods(t, "default", "app=beside", 3)[0]
	apply(t, second)
	vips := strings.Fields(kubectl(t, "wait", "service/second", "--for=jsonpath={.status.loadBalancer.ingress[1].ip}", "--timeout=5m",
		"--output=jsonpath={.status.loadBalancer.ingress[*].ip}"))
	if len(vips) != 2 {
		t.Fatalf("the Service has %q", vips)
	}
	node := l.Nodes()[0]
	for _, ip := range vips {
		url := "http://" + ip + "/"
		if strings.Contains(ip, ":") {
			url = "http://[" + ip + "]/"
		}
		for _, host := range []string{lab.Ext2, lab.Router2, node} {
			answersTo(t, host, url, 3)
		}
		r, err := l.ProbeFromPod(t.Context(), from.Name, url, "-n=60", "-c=10", "-timeout=5s")
		if err != nil {
			t.Fatal(err)
		}
		wantAll(t, r, 3)
	}
	kubectl(t, "patch", "service", "second", "--type=merge", "-p", `{"spec":{"externalTrafficPolicy":"Local"}}`)
	for _, ip := range vips {
		eventually(t, settled, ip+" to answer with policy Local", func(ctx context.Context) error {
			url := "http://" + ip + "/"
			if strings.Contains(ip, ":") {
				url = "http://[" + ip + "]/"
			}
			r, err := l.Probe(ctx, lab.Ext2, url, "-n=60", "-c=10", "-timeout=1s")
			if err == nil && (r.Failures > 0 || r.Distinct == 0 || r.Distinct == 3) {
				err = fmt.Errorf("%d of %d requests failed, %d pods answered", r.Failures, r.Requests, r.Distinct)
			}
			return err
		})
	}
	explained := kubectl(t, "get", "nodestate", node, "-o", "jsonpath={.status.conditions[?(@.type=='Routers')].reason}")
	if explained != "Known" {
		t.Errorf("the NodeState says of the routers: %q", explained)
	}
}
