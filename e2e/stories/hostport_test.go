package stories

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
)

// hostPort is a pod on a node with hostPort 80, which the Service has too, and 81.
const hostPort = `apiVersion: v1
kind: Pod
metadata: {name: hostport}
spec:
  nodeName: %s
  containers:
  - name: hello
    image: "ghcr.io/fairlead/hello:dev"
    imagePullPolicy: IfNotPresent
    ports:
    - {containerPort: 8080, hostPort: 80, protocol: TCP}
    - {containerPort: 8080, hostPort: 81, protocol: TCP}
`

// A pod with a hostPort on the node that announces a VIP takes no port of the VIP. It
// answers at the node's own address.
func TestHostPortTakesNoPortOfAVIP(t *testing.T) {
	l := cluster(t)
	s := web(t)
	for _, ip := range s.ExternalIPs {
		node := announcer(t, ip)
		t.Run(ip, func(t *testing.T) {
			apply(t, fmt.Sprintf(hostPort, node))
			kubectl(t, "wait", "--for=condition=Ready", "pod/hostport", "--timeout=60s")
			own := l.NodeAddress(node)
			if strings.Contains(ip, ":") {
				own = l.NodeAddress6(node)
			}
			for _, port := range []int{80, 81} {
				answersTo(t, lab.Client, demo.URL(own, port), 1)
			}
			answersTo(t, lab.Client, demo.URL(ip, 80), demo.Replicas)
			eventually(t, settled, ip+" to refuse port 81", func(ctx context.Context) error {
				out, err := get(ctx, l, lab.Client, demo.URL(ip, 81))
				switch {
				case err == nil:
					return fmt.Errorf("it says %q", out)
				case !strings.Contains(out+err.Error(), "refused"):
					return fmt.Errorf("it says %q: %w", out, err)
				}
				return nil
			})
		})
	}
}
