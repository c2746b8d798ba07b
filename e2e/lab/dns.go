package lab

import (
	_ "embed"
	"strings"
)

// dnsManifest is CoreDNS as a cluster has it: a Deployment behind the Service
// kube-dns. It forwards nowhere.
//
//go:embed dns.yaml
var dnsManifest string

// DNSConfig is the ConfigMap of dnsManifest, for a CoreDNS that kubeadm has installed in a
// cluster without a way out. kubeadm's own forwards to servers that do not answer, and
// remembers names for 30 s.
func DNSConfig() string {
	for manifest := range strings.SplitSeq(dnsManifest, "---\n") {
		if strings.Contains(manifest, "kind: ConfigMap\n") {
			return manifest
		}
	}
	return ""
}
