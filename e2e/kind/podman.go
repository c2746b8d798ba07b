package kind

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Space is the network namespace of Podman's networks, and the cgroup of its containers.
// The namespace has no route out, and what Podman writes into its firewall is gone with
// it.
const Space = "fairlead-kind"

const netns = "/run/netns/" + Space

// Enter is the command that runs a program where the cluster is reached, to be followed
// by it. With Docker it is empty: that is the machine itself.
func (o Options) Enter() []string {
	if o.podman() {
		return []string{"nsenter", "--net=" + netns, "--"}
	}
	return nil
}

// Storage is the directory of Podman's images and containers. It is beside State, or
// every container would hold every other's mounts.
func (o Options) Storage() string { return o.State + ".podman" }

// runtime is the directory of what Podman keeps until the machine's next start.
const runtime = "/run/fairlead-kind"

// Limits are what a container's process may have at most. Without the capability
// SYS_RESOURCE nobody may give more than the machine's own process has.
type Limits struct{ Files, Processes uint64 }

// Podman returns the files with which the machine's own Podman is left alone, by path.
// Program is the path of podman, and store the directory of Import; empty for none.
func (o Options) Podman(program, store string, l Limits) map[string]string {
	return map[string]string{
		o.program():                           o.wrapper(program),
		filepath.Join(o.State, "policy.json"): policy,
		filepath.Join(o.State, "storage.conf"): fmt.Sprintf(`[storage]
driver = "overlay"
graphroot = %q
runroot = %q
[storage.options]
additionalimagestores = [%s]
`, o.Storage()+"/storage", runtime+"/storage", quoted(store)),
		filepath.Join(o.State, "containers.conf"): fmt.Sprintf(`[containers]
default_ulimits = ["nofile=%d:%[1]d", "nproc=%d:%[2]d"]
log_driver = "k8s-file"
pids_limit = 0
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
static_dir = %q
volume_path = %q
tmp_dir = %q
[network]
network_backend = "netavark"
network_config_dir = %q
`, l.Files, l.Processes, o.Storage()+"/libpod", o.Storage()+"/volumes", runtime+"/libpod", o.Storage()+"/networks"),
	}
}

// wrapper is a podman with the files above, in the network namespace. It gives kind's
// nodes the addresses of the lab's, which they keep when they start again.
func (o Options) wrapper(program string) string {
	var nodes strings.Builder
	for i, name := range Containers() {
		number := 2
		if i > 0 {
			number = 10 + i
		}
		fmt.Fprintf(&nodes, `"run --name %s")
	shift 3
	set -- run --name %[1]s --ip=198.18.0.%d --ip6=fd98:18::%[2]x --mac-address=02:fa:1e:ad:00:%02[2]x "$@"
	;;
`, name, number)
	}
	return fmt.Sprintf(`#!/bin/sh
export CONTAINERS_CONF=%s CONTAINERS_STORAGE_CONF=%s
case "${1-} ${2-} ${3-}" in
%sesac
# kind's nodes mount the modules of the kernel, which a virtual machine may not have.
modules=/lib/modules
[ -e "$modules" ] || modules=%[5]s
if [ "${1-}" = run ]; then
	mkdir -p %[5]s
	shift
	for arg; do
		shift
		case "$arg" in /lib/modules:*) arg=$modules:${arg#*:} ;; esac
		set -- "$@" "$arg"
	done
	# Pods would have the search domain of Podman's networks. CoreDNS asks others for its
	# names, and nobody answers.
	set -- run --cgroup-parent=/%[7]s --dns-search=. "$@"
fi
[ ! -e %[4]s ] || exec nsenter --net=%[4]s %[6]s "$@"
exec %[6]s "$@"
`, filepath.Join(o.State, "containers.conf"), filepath.Join(o.State, "storage.conf"), nodes.String(), netns, filepath.Join(o.State, "modules"), program, Space)
}

// space makes the network namespace. With br_netfilter the firewall would see what the
// LAN's bridge passes on, and Podman's rules would masquerade clients of pods.
func (o Options) space() []Command {
	sysctl := []string{"ip", "netns", "exec", Space, "sysctl", "--quiet", "--ignore"}
	for _, what := range []string{"arptables", "ip6tables", "iptables"} {
		sysctl = append(sysctl, "net.bridge.bridge-nf-call-"+what+"=0")
	}
	return []Command{
		{Args: []string{"ip", "netns", "add", Space}},
		{Args: []string{"ip", "-n", Space, "link", "set", "lo", "up"}},
		{Args: sysctl},
	}
}

// policy lets Podman import what is made here.
const policy = `{"default": [{"type": "insecureAcceptAnything"}]}` + "\n"

// quoted is a directory as storage.conf lists it. Of "" it is "".
func quoted(dir string) string {
	if dir == "" {
		return ""
	}
	return fmt.Sprintf("%q", dir)
}

// Import is the command that makes NodeImage of an archive, in a store of its own that
// clusters only read.
func (o Options) Import(archive, store string) Command {
	return o.engine("--root="+store, "--runroot="+runtime+"/import", "import", "--quiet", "--signature-policy="+filepath.Join(o.State, "policy.json"),
		`--change=ENTRYPOINT ["/kind/bin/kernel.sh", "/usr/local/bin/entrypoint", "/sbin/init"]`, "--change=ENV container=podman",
		"--change=STOPSIGNAL SIGRTMIN+3", archive, NodeImage)
}

// leave removes everything of Podman's, which is all below the directories of its own.
func (o Options) leave() []Command {
	return []Command{
		o.engine("rm", "--all", "--force", "--volumes", "--time=0"),
		o.engine("volume", "prune", "--force"),
		o.engine("network", "rm", lan, ext),
		{Args: []string{"umount", o.Storage() + "/storage/overlay"}}, // a mount of itself
		{Args: []string{"ip", "netns", "del", Space}},
		{Args: []string{"find", "/sys/fs/cgroup", "-depth", "-type", "d", "-path", "/sys/fs/cgroup*/" + Space + "*", "-delete"}},
		{Args: []string{"rm", "--recursive", "--force", "--one-file-system", o.Storage(), runtime, filepath.Join(o.State, "images")}},
	}
}
