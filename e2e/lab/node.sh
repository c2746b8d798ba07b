# shellcheck shell=sh
# Gives a node its own /proc, /run, /etc, /var, /opt and /sys/fs/bpf. Runs inside the
# namespaces of the node: $0 is its name, $1 the state directory of the lab,
# $2 the directory of the node in it.
set -e
hostname "$0"
mount --make-rprivate /
mount -t proc proc /proc

# What the node writes outside its disk lives in memory.
mkdir -p "$2/memory"
mount -t tmpfs -o mode=755 tmpfs "$2/memory"
own=/run/.lab
mkdir -p "$2/memory/.lab/state"
mount --bind "$1" "$2/memory/.lab/state"
mount --rbind "$2/memory" /run
for dir in etc var opt; do
	mkdir -p "$own/$dir" "$own/$dir.work"
	mount -t overlay -o "lowerdir=/$dir,upperdir=$own/$dir,workdir=$own/$dir.work" overlay "/$dir"
done
mkdir -p "$1"
mount --bind "$own/state" "$1"

# The node's disk.
for dir in /var/lib/containerd /var/lib/kubelet /var/lib/fairlead /var/lib/fairlead-control-plane /var/log/pods /etc/kubernetes/manifests; do
	mkdir -p "$dir" "$2/disk/${dir##*/}"
	mount --bind "$2/disk/${dir##*/}" "$dir"
done

mkdir -p /run/netns /etc/cni/net.d
mount -t tmpfs tmpfs /etc/cni/net.d
[ ! -e "$2/lab.conflist" ] || cp "$2/lab.conflist" /etc/cni/net.d/10-lab.conflist
mkdir -p /opt/cni/bin
ln -sf /usr/lib/cni/* /opt/cni/bin/

# What is pinned here is the node's own, and goes with it.
mount -t bpf bpf /sys/fs/bpf

# The kubelet sets these for the whole machine unless it finds them set.
fix() {
	file="$own/$(echo "$1" | tr / -)"
	echo "$2" >"$file"
	mount --bind "$file" "/proc/sys/$1"
}
fix vm/overcommit_memory 1
fix vm/panic_on_oom 0
fix kernel/panic 10
fix kernel/panic_on_oops 1
fix kernel/keys/root_maxkeys 1000000
fix kernel/keys/root_maxbytes 25000000

mount --make-rshared /
