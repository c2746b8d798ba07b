#!/bin/sh
# The pods' network without a plugin to install: a bridge on this node, and a route to
# the pods of every other node. May be run again at any time.
set -eu
env=${LAB_ENV:-/etc/fairlead-lab.env}
# shellcheck source=/dev/null
[ ! -r "$env" ] || . "$env"
: "${NODE:?the name of this node}"
: "${NODES:?all nodes, as NAME=ADDRESS=POD_CIDR, separated by spaces}"
routes=${POD_ROUTES:-nodes} # nodes: by their addresses; fabric: the network itself routes

if ! command -v nft >/dev/null; then
	export DEBIAN_FRONTEND=noninteractive
	apt-get -q update
	apt-get -q install --yes --no-install-recommends nftables
fi
sysctl -qw net.ipv4.ip_forward=1
pods=
all=
for node in $NODES; do
	name=${node%%=*}
	rest=${node#*=}
	address=${rest%%=*}
	cidr=${rest#*=}
	all="$all${all:+, }$cidr"
	if [ "$name" = "$NODE" ]; then
		pods=$cidr
	elif [ "$routes" = nodes ]; then
		ip route replace "$cidr" via "$address"
	fi
done
[ -n "$pods" ] || { echo "pod-network.sh: $NODE is not in NODES" >&2; exit 1; }
for route in ${ROUTES:-}; do # others, as CIDR=ADDRESS
	ip route replace "${route%%=*}" via "${route#*=}"
done

mtu=1500
[ ! -e /sys/class/net/lan0 ] || mtu=$(cat /sys/class/net/lan0/mtu)
mkdir -p /etc/cni/net.d
cat >/etc/cni/net.d/10-pods.conflist <<END
{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [
    {
      "type": "bridge", "bridge": "cni0", "mtu": $mtu, "isGateway": true, "hairpinMode": true,
      "ipam": {"type": "host-local", "ranges": [[{"subnet": "$pods"}]], "routes": [{"dst": "0.0.0.0/0"}]}
    },
    {"type": "loopback"}
  ]
}
END

# Pods reach the world with the node's address; each other, and the LAN, with their own.
uplink=$(ip -4 route show default | awk '{ for (i = 1; i < NF; i++) if ($i == "dev") { print $(i + 1); exit } }')
[ -z "$uplink" ] || nft -f - <<END
table ip lab-pods
delete table ip lab-pods
table ip lab-pods {
	chain out {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr $pods oifname "$uplink" ip daddr != { $all } masquerade
	}
}
END
