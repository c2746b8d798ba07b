#!/bin/sh
# Makes this machine a node. May be run again at any time.
set -eu
env=${LAB_ENV:-/etc/fairlead-lab.env}
# shellcheck source=/dev/null
[ ! -r "$env" ] || . "$env"
: "${NODE:?the name of this node}"
: "${CONTROL_PLANE:?the address of the control plane}"
: "${JOIN_TOKEN:?what the control plane was made with}"

[ ! -e /etc/kubernetes/kubelet.conf ] || exit 0
for _ in $(seq 360); do
	if curl -fsk -o /dev/null --max-time 2 "https://$CONTROL_PLANE:6443/readyz"; then
		break
	fi
	sleep 5
done
# The token is this lab's alone and ends after a day; who could take the control
# plane's address on this network could have it.
kubeadm join "$CONTROL_PLANE:6443" --node-name="$NODE" --token="$JOIN_TOKEN" --discovery-token-unsafe-skip-ca-verification
