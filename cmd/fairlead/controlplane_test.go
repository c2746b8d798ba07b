//go:build linux

package main

import (
	"bytes"
	"strings"
	"testing"
)

// A release names its own image, and no other build does.
func TestReleaseImage(t *testing.T) {
	for version, want := range map[string]string{
		"v1.2.3": "ghcr.io/fairlead/fairlead:1.2.3", "1.2.3": "ghcr.io/fairlead/fairlead:1.2.3", "v1.2.3-rc.1": "ghcr.io/fairlead/fairlead:1.2.3-rc.1",
		"v1.2.3-4-gabcdef0": "", "abcdef0-dirty": "", "devel": "",
	} {
		if got := releaseImage(version); got != want {
			t.Errorf("%s has the image %q, want %q", version, got, want)
		}
	}
}

// The manifest has the flags that were given and no others, and a flag that cannot work is
// refused with its name.
func TestControlPlaneManifest(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--address 192.0.2.100 --members 192.0.2.1,192.0.2.2 --image x:1", "  - args:\n    - --address=192.0.2.100\n    - --members=192.0.2.1,192.0.2.2\n    command:"},
		{"--address 192.0.2.100 --bgp-asn 64500 --bgp-peer 192.0.2.1=64501 --image x:1", "- --bgp-peer=192.0.2.1=64501"},
		{"--address 192.0.2.100", "--image"},
		{"--image x:1", "--address"},
		{"--address here --image x:1", `--address: "here" is not an address`},
		{"--address 192.0.2.100 --members a --image x:1", "--members"},
		{"--address 192.0.2.100 --bgp-peer 192.0.2.1 --image x:1", "--bgp-peer"},
		{"--address 192.0.2.100 --key-file key --image x:1", "the whole path"},
	} {
		cmd := controlPlaneCommand()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(append([]string{"manifest"}, strings.Fields(c.args)...))
		err := cmd.Execute()
		if err != nil {
			out.WriteString(err.Error())
		}
		if !strings.Contains(out.String(), c.want) || (err == nil) != strings.Contains(out.String(), "kind: Pod") {
			t.Errorf("manifest %s: %v, %s", c.args, err, out.String())
		}
	}
}
