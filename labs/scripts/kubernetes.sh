#!/bin/sh
# containerd, kubelet, kubeadm and kubectl on Debian or Ubuntu, and fairlead's image
# if there is a file of it. The kubelet may be up to three minor versions older than
# the control plane. May be run again at any time.
set -eu
env=${LAB_ENV:-/etc/fairlead-lab.env}
# shellcheck source=/dev/null
[ ! -r "$env" ] || . "$env"
: "${ADDRESS:?the address of this node}"
kubernetes=${KUBERNETES:-1.36}   # of the control plane, and of kubeadm
kubelet=${KUBELET:-$kubernetes}
export DEBIAN_FRONTEND=noninteractive

swapoff -a
sed -i '/\sswap\s/d' /etc/fstab
modprobe br_netfilter || true # not every kernel has it as a module

apt-get -q update
apt-get -q install --yes --no-install-recommends ca-certificates curl gpg containerd containernetworking-plugins nftables conntrack iproute2
mkdir -p /etc/apt/keyrings /etc/containerd /opt/cni/bin
cp -n /usr/lib/cni/* /opt/cni/bin/ || true # where the kubelet's containerd looks by default
for version in $(printf '%s\n' "$kubernetes" "$kubelet" | sort -u); do
	url=https://pkgs.k8s.io/core:/stable:/v$version/deb
	key=/etc/apt/keyrings/kubernetes-$version.gpg
	[ -s "$key" ] || curl -fsSL "$url/Release.key" | gpg --dearmor -o "$key"
	echo "deb [signed-by=$key] $url/ /" >"/etc/apt/sources.list.d/kubernetes-$version.list"
done
apt-get -q update
apt-get -q install --yes --allow-change-held-packages --allow-downgrades "kubelet=$kubelet.*" "kubeadm=$kubernetes.*" "kubectl=$kubernetes.*"
apt-mark hold kubelet kubeadm kubectl

if [ ! -e /etc/containerd/config.toml ] || ! grep -q 'SystemdCgroup = true' /etc/containerd/config.toml; then
	containerd config default | sed 's/SystemdCgroup = false/SystemdCgroup = true/' >/etc/containerd/config.toml
	systemctl restart containerd
fi
extra="--node-ip=$ADDRESS"
[ "${EXTERNAL_CLOUD_PROVIDER:-no}" = no ] || extra="$extra --cloud-provider=external"
echo "KUBELET_EXTRA_ARGS=$extra" >/etc/default/kubelet

if [ -n "${IMAGE_TAR:-}" ]; then
	ctr -n k8s.io images import "$IMAGE_TAR"
fi
