//go:build linux

package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy/ebpf"
	nftables "github.com/fairlead/fairlead/proxy/nftables/netlink"
)

// ebpfFlags adds the flags that say where the eBPF programs are.
func ebpfFlags(f *pflag.FlagSet) *ebpf.Options {
	o := &ebpf.Options{}
	f.StringVar(&o.Cgroup, "cgroup", ebpf.DefaultCgroup, "the cgroup (v2) of this node's pods, to attach eBPF programs to; or a parent of it, below which the agent looks for a kubelet's")
	bpfDirFlag(f, &o.Pins)
	return o
}

func bpfDirFlag(f *pflag.FlagSet, to *string) {
	f.StringVar(to, "bpf-dir", ebpf.DefaultPins, "a folder of this node's alone in a bpf filesystem, where eBPF programs outlast a restart")
}

// dataplane makes the engine: nftables, and eBPF before it if accelerate says so. serves
// reports whether it serves a family.
func dataplane(accelerator ebpf.Options, accelerate string, opt nftables.Options) (_ *ebpf.Engine, serves func(snapshot.Family) bool, err error) {
	if accelerate != "auto" && accelerate != "off" {
		return nil, nil, fmt.Errorf("--accelerate: %q is neither auto nor off", accelerate)
	}
	behind := nftables.New(opt)
	accelerator.Off, accelerator.Behind, accelerator.Log = accelerate == "off", behind, opt.Log
	return ebpf.New(accelerator), behind.Serves, nil
}
