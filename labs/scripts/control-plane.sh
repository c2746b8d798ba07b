#!/bin/sh
# The control plane, by kubeadm, without kube-proxy: fairlead takes its place. Pods
# may run here too, and it announces addresses as the others do. May be run again at
# any time.
set -eu
env=${LAB_ENV:-/etc/fairlead-lab.env}
# shellcheck source=/dev/null
[ ! -r "$env" ] || . "$env"
: "${NODE:?the name of this node}" "${ADDRESS:?its address}"
: "${JOIN_TOKEN:?what nodes join with, as kubeadm makes it}"
export KUBECONFIG=/etc/kubernetes/admin.conf

if [ ! -e "$KUBECONFIG" ]; then
	kubeadm init --node-name="$NODE" --apiserver-advertise-address="$ADDRESS" --control-plane-endpoint="$ADDRESS:6443" \
		--service-cidr="${SERVICE_CIDR:-10.96.0.0/16}" --token="$JOIN_TOKEN" --token-ttl=24h --skip-phases=addon/kube-proxy
fi
kubectl taint nodes "$NODE" node-role.kubernetes.io/control-plane- 2>/dev/null || true # it has none the second time
kubectl label nodes "$NODE" node.kubernetes.io/exclude-from-external-load-balancers-
