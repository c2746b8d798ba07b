package cli_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
)

// The archive holds what helps and nothing secret, though the cluster has it.
func TestCollect(t *testing.T) {
	w := newWorld(t)
	w.change(t, `apiVersion: v1
kind: Service
metadata:
  namespace: shop
  name: web
  annotations: {example.com/token: hush-annotation, fairlead.io/pool: lan, kubectl.kubernetes.io/last-applied-configuration: hush-applied}
---
apiVersion: v1
kind: Pod
metadata: {namespace: fairlead-system, name: fairlead-agent-aaaaa}
spec: {containers: [{name: agent, image: x, env: [{name: TOKEN, value: hush-env}]}]}
---
apiVersion: v1
kind: Secret
metadata: {namespace: fairlead-system, name: fairlead-members}
stringData: {key: hush-secret}
---
apiVersion: v1
kind: ConfigMap
metadata: {namespace: kube-system, name: kube-proxy}
data: {config.conf: "mode: iptables # hush-config"}
---
apiVersion: v1
kind: Service
metadata: {namespace: default, name: inner, uid: uid-inner}
spec: {type: ClusterIP, clusterIP: 10.96.0.99, clusterIPs: [10.96.0.99]}
---
apiVersion: v1
kind: Event
metadata: {namespace: shop, name: web.1}
involvedObject: {kind: Service, namespace: shop, name: web}
reason: EnsuredLoadBalancer
message: the address is there
type: Normal
---
apiVersion: v1
kind: Event
metadata: {namespace: shop, name: pod.1}
involvedObject: {kind: Pod, namespace: shop, name: web-1}
message: hush-event
`)
	out := w.run(t, "collect --file -")
	out = out[:strings.LastIndex(out, "-: ")] // what it says of itself
	files := unpack(t, []byte(out))
	for name, want := range map[string]string{
		"fairlead/status.txt": "192.0.2.200  lan   shop/web", "fairlead/doctor.txt": "", "fairlead/versions.txt": "command: 0.1.0",
		"fairlead/objects/service.yaml": "fairlead.io/pool: lan", "fairlead/objects/addresspool.yaml": "192.0.2.200-192.0.2.209",
		"fairlead/objects/nodestate.yaml": "agentVersion: 0.1.0", "fairlead/events.txt": "the address is there",
		"fairlead/logs/fairlead-agent-aaaaa.log": "fake logs",
	} {
		if text, ok := files[name]; !ok || !strings.Contains(text, want) {
			t.Errorf("%s: want %q in %q", name, want, text)
		}
	}
	for name, text := range files {
		if strings.Contains(text, "hush") || strings.Contains(text, "inner") || strings.Contains(name, "secret") {
			t.Errorf("%s has what it must not:\n%s", name, text)
		}
	}
	if !strings.Contains(files["fairlead/objects/service.yaml"], "example.com/token: (taken out)") {
		t.Error("it does not say that an annotation was taken out")
	}
}

func unpack(t *testing.T, data []byte) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(data))
	must(t, err)
	files := map[string]string{}
	for r := tar.NewReader(zip); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		must(t, err)
		text, err := io.ReadAll(r)
		must(t, err)
		files[head.Name] = string(text)
	}
}
