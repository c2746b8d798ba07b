package lab

import _ "embed"

// dnsManifest is CoreDNS as a cluster has it: a Deployment behind the Service
// kube-dns. It forwards nowhere.
//
//go:embed dns.yaml
var dnsManifest string
