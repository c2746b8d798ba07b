#!/bin/bash
# Runs the scripts of labs/ that need neither a package mirror nor a cluster, as the
# machines of a lab would: overlay.sh, pod-network.sh and router.sh with a real FRR.
# Each machine is network, mount and PID namespaces, behind a network that carries no
# ARP. The second run must change nothing and print nothing. Needs root.
set -euo pipefail
cd "$(dirname "$0")/../.."

declare -A underlay=([node1]=198.18.60.11 [node2]=198.18.60.12 [router]=198.18.60.254)
declare -A overlay=([node1]=198.18.61.11 [node2]=198.18.61.12 [router]=198.18.61.254)
declare -A process # the first process of each machine

# boot starts a machine. What it writes to /etc, /opt, /usr/local and /run stays there.
boot() {
	mkdir "$dir/$1"
	# shellcheck disable=SC2016 # the shell on the machine expands it
	unshare --net --mount --pid --fork --kill-child sh -ec '
		mount --make-rprivate /
		mount -t proc proc /proc
		mount -t sysfs sysfs /sys # that of this network
		mount -t tmpfs tmpfs "$1"
		for name in etc opt usr/local; do
			mkdir -p "$1/$name" "$1/work/$name"
			mount -t overlay -o "lowerdir=/$name,upperdir=$1/$name,workdir=$1/work/$name" overlay "/$name"
		done
		mount -t tmpfs tmpfs /run
		ip link set lo up
		: >"$1.up"
		exec sleep infinity' sh "$dir/$1" &
	holders+=($!)
	disown $! # or the shell reports that it was killed
	until_true "$1 starts" test -e "$dir/$1.up"
	process[$1]=$(pgrep -P "${holders[-1]}")
}

# on runs a command on a machine, net in its network alone.
on() { nsenter --target "${process[$1]}" --net --mount --pid -- "${@:2}"; }
net() { nsenter --target "${process[$1]}" --net -- "${@:2}"; }

# until_true waits half a minute for a command to succeed.
until_true() {
	local what=$1 end=$((SECONDS + 30))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || { echo "labs: not within 30 s: $what" >&2; exit 1; }
		sleep 0.1
	done
}

# attach joins a machine to the fabric, which answers every ARP request itself.
attach() {
	net fabric ip link add "$1" type veth peer name eth0 netns "${process[$1]}"
	net fabric ip address add 198.18.60.1/32 dev "$1"
	net fabric ip link set "$1" up
	net fabric ip route add "${underlay[$1]}/32" dev "$1"
	net fabric sysctl -qw "net.ipv4.conf.$1.proxy_arp=1" "net.ipv4.neigh.$1.proxy_delay=0"
	net "$1" ip address add "${underlay[$1]}/24" dev eth0
	net "$1" ip link set eth0 up
	net "$1" ip route add default via 198.18.60.1
}

# settings prints what the scripts read from /etc/fairlead-lab.env.
settings() {
	cat <<END
ANNOUNCE='bgp'
UNDERLAY='${underlay[$1]}'
PEERS='${underlay[*]}'
OVERLAY='${overlay[$1]}/24'
NODE='$1'
NODES='node1=${overlay[node1]}=198.19.1.0/24 node2=${overlay[node2]}=198.19.2.0/24'
ROUTER='${overlay[router]}'
ROUTES='198.18.62.0/24=${overlay[router]}'
END
}

# run runs a script of the labs on a machine, twice. What it prints goes to a file and
# not to a pipe, which daemons that it starts would keep open.
run() {
	on "$1" "$PWD/labs/scripts/$2"
	on "$1" "$PWD/labs/scripts/$2" >"$dir/again" 2>&1
	[ ! -s "$dir/again" ] || { echo "labs: the second $2 on $1 printed: $(cat "$dir/again")" >&2; exit 1; }
}

dir=$(mktemp -d)
holders=()
# unshare ignores SIGTERM; with it dies the machine, and with that its network.
trap 'kill -KILL "${holders[@]}"; rm -rf "$dir"' EXIT

boot fabric
net fabric sysctl -qw net.ipv4.ip_forward=1
for machine in "${!underlay[@]}"; do
	boot "$machine"
	attach "$machine"
	settings "$machine" | on "$machine" sh -c 'cat >/etc/fairlead-lab.env'
	run "$machine" overlay.sh
done
for machine in node1 node2; do
	run "$machine" pod-network.sh
	on "$machine" test -s /etc/cni/net.d/10-pods.conflist
done
run router router.sh

on node2 ip address add 198.19.2.1/24 dev lo
until_true "the router reaches node2 by the overlay" on router ping -c1 -W1 "${overlay[node2]}"
until_true "node1 reaches a pod of node2" on node1 ping -c1 -W1 198.19.2.1
for node in node1 node2; do
	until_true "FRR waits for $node" on router sh -c "vtysh -c 'show bgp neighbors ${overlay[$node]}' | grep -q 'BGP state = Active'"
	until_true "FRR watches $node by BFD" on router sh -c "vtysh -c 'show running-config' | grep -q 'neighbor ${overlay[$node]} bfd profile nodes'"
done
echo "labs: overlay.sh, pod-network.sh and router.sh ran twice on ${#underlay[@]} machines"
