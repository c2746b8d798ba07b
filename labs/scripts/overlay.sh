#!/bin/sh
# Makes lan0, a VXLAN between virtual machines, for networks that deliver only what
# is addressed to an address that they gave out themselves, and neither ARP nor
# broadcast. May be run again at any time; changed PEERS are taken over.
set -eu
env=${LAB_ENV:-/etc/fairlead-lab.env}
# shellcheck source=/dev/null
[ ! -r "$env" ] || . "$env"
: "${UNDERLAY:?the address of this machine on the network that there is}"
: "${PEERS:?the same of all machines, separated by spaces; this one may be among them}"
: "${OVERLAY:?the address of this machine on lan0, with its prefix length}"
vni=${VNI:-4096}
port=${VXLAN_PORT:-4789}

device=$(ip -o -4 address show to "$UNDERLAY/32" | awk '$2 != "lan0" { print $2; exit }')
[ -n "$device" ] || { echo "overlay.sh: no link has $UNDERLAY" >&2; exit 1; }
mtu=$(($(cat "/sys/class/net/$device/mtu") - 50)) # outer Ethernet, IPv4, UDP and VXLAN

# Neighbours are learned from what comes in: a machine that answers for an address on the
# LAN is found by flooding, as on a switch.
[ -e /sys/class/net/lan0 ] ||
	ip link add lan0 type vxlan id "$vni" local "$UNDERLAY" dstport "$port"
ip link set lan0 mtu "$mtu" up
ip address replace "$OVERLAY" dev lan0

# Flooding is done by the sender: a copy for every peer. There is no multicast.
flood=00:00:00:00:00:00
has=$(bridge fdb show dev lan0 | awk -v all=$flood '$1 == all { for (i = 2; i < NF; i++) if ($i == "dst") print $(i + 1) }')
for peer in $PEERS; do
	if [ "$peer" != "$UNDERLAY" ] && ! echo "$has" | grep -qxF "$peer"; then
		bridge fdb append $flood dev lan0 dst "$peer"
	fi
done
for peer in $has; do
	case " $PEERS " in
	*" $peer "*) ;;
	*) bridge fdb del $flood dev lan0 dst "$peer" ;;
	esac
done
