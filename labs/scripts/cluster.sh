#!/bin/sh
# What the cluster is told: the addresses for Services, how they are announced, and a
# Service to look at. May be run again at any time.
set -eu
env=${LAB_ENV:-/etc/fairlead-lab.env}
# shellcheck source=/dev/null
[ ! -r "$env" ] || . "$env"
: "${VIPS:?the addresses for Services, as FIRST-LAST or CIDR}"
announce=${ANNOUNCE:-l2}
export KUBECONFIG="${KUBECONFIG:-/etc/kubernetes/admin.conf}"

kubectl wait --for=condition=Established --timeout=60s crd/addresspools.fairlead.io crd/bgppeers.fairlead.io crd/announcements.fairlead.io
kubectl apply -f - <<END
apiVersion: fairlead.io/v1alpha1
kind: AddressPool
metadata:
  name: lab
  labels: {announce: $announce}
spec:
  addresses: ["$VIPS"]
END
if [ "$announce" = bgp ]; then
	more=${BGP_PEER_MORE:-"bfd: {receiveInterval: 300ms, transmitInterval: 300ms, detectMultiplier: 3}"}
	: "${BGP_PEERS:?the routers, as NAME=ADDRESS, separated by spaces}"
	for peer in $BGP_PEERS; do
		kubectl apply -f - <<END
apiVersion: fairlead.io/v1alpha1
kind: BGPPeer
metadata:
  name: ${peer%%=*}
spec: {address: ${peer#*=}, peerASN: ${ROUTER_ASN:-64501}, localASN: ${NODE_ASN:-64500}, $more}
END
	done
	kubectl apply -f - <<END
apiVersion: fairlead.io/v1alpha1
kind: Announcement
metadata:
  name: lab
spec:
  poolSelector: {matchLabels: {announce: bgp}}
  bgp: {}
END
fi
[ -z "${WEB:-}" ] || kubectl apply -f "$WEB"
