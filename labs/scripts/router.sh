#!/bin/sh
# Makes this machine the router of the nodes' LAN. With ANNOUNCE=bgp FRR waits for a
# session from every node and shares the traffic between those that announce an
# address; with ANNOUNCE=l2 the machine forwards, and ARP finds the node. May be run
# again at any time.
set -eu
env=${LAB_ENV:-/etc/fairlead-lab.env}
# shellcheck source=/dev/null
[ ! -r "$env" ] || . "$env"
: "${ROUTER:?the address of this machine on the LAN}"
: "${NODES:?all nodes, as NAME=ADDRESS=POD_CIDR, separated by spaces}"
announce=${ANNOUNCE:-l2}
node_asn=${NODE_ASN:-64500}
router_asn=${ROUTER_ASN:-64501}

cat >/etc/sysctl.d/90-fairlead-lab.conf <<END
net.ipv4.ip_forward = 1
# Connections, not packets, are shared between the nodes.
net.ipv4.fib_multipath_hash_policy = 1
END
sysctl -q -p /etc/sysctl.d/90-fairlead-lab.conf

if [ ! -x /usr/lib/frr/bgpd ]; then
	export DEBIAN_FRONTEND=noninteractive
	apt-get -q update
	apt-get -q install --yes --no-install-recommends frr
fi

bgp() {
	echo "bfd"
	echo " profile nodes"
	echo "  detect-multiplier 3"
	echo "  receive-interval 300" # a virtual machine may stand still for longer than metal does
	echo "  transmit-interval 300"
	echo "exit"
	echo "router bgp $router_asn"
	echo " bgp router-id $ROUTER"
	echo " no bgp ebgp-requires-policy"
	for node in $NODES; do
		rest=${node#*=}
		address=${rest%%=*}
		echo " neighbor $address remote-as $node_asn"
		echo " neighbor $address passive"
		echo " neighbor $address bfd profile nodes"
	done
	echo " address-family ipv4 unicast"
	echo "  maximum-paths 8"
	echo " exit-address-family"
	echo "exit"
}

new=$(mktemp)
trap 'rm -f "$new"' EXIT
{
	echo "frr defaults traditional"
	echo "log syslog informational"
	[ "$announce" != bgp ] || bgp
} >"$new"
if cmp -s "$new" /etc/frr/frr.conf && grep -qx bgpd=yes /etc/frr/daemons; then
	exit 0
fi
cp "$new" /etc/frr/frr.conf
chown frr:frr /etc/frr/frr.conf
chmod 640 /etc/frr/frr.conf
sed -i 's/^bgpd=.*/bgpd=yes/; s/^bfdd=.*/bfdd=yes/' /etc/frr/daemons
if [ -d /run/systemd/system ]; then
	systemctl enable --quiet frr
	systemctl restart frr
else
	/usr/lib/frr/frrinit.sh restart
fi
