package main

import (
	"fmt"
	"strings"
)

// plugin writes the manifest by which krew, the plugin manager of kubectl,
// installs "kubectl fairlead".
func (r *release) plugin() error {
	var platforms strings.Builder
	for _, t := range r.targets {
		sum, err := r.sum(r.archive(t, mainCommand))
		if err != nil {
			return err
		}
		fmt.Fprintf(&platforms, `    - selector:
        matchLabels: {os: %s, arch: %s}
      uri: %s/releases/download/%s/%s
      sha256: %s
      bin: %s
`, t.os, t.arch, home, r.version, r.archive(t, mainCommand), sum, t.file(mainCommand))
	}
	return r.write("fairlead.krew.yaml", []byte(fmt.Sprintf(krew, r.version, home, platforms.String())))
}

const krew = `apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: fairlead
spec:
  version: %s
  homepage: %s
  shortDescription: See and explain LoadBalancer Services of fairlead
  description: |
    Shows the state of the load balancer fairlead, explains for a Service which
    address it has or why it has none, where the address is announced and what
    a packet would meet, and finds what is wrong with a cluster.
  platforms:
%s`
