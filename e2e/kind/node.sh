#!/bin/sh
# Makes kind's node of a Debian root file system: node.sh FILES VERSION IMAGES PROGRAM... ROOT.
# FILES are those of kind's own node image, VERSION is Kubernetes', and the programs are
# kubeadm, kubelet and kubectl. A node finds archives of images in IMAGES, which it shares
# with the machine.
set -eu
files=$1 version=$2 images=$3
shift 3
for root; do :; done
mkdir -p "$root/kind" "$root/etc/kubernetes/manifests" "$root/etc/cni/net.d"
for dir in etc kind usr; do
	cp -R --no-preserve=mode,ownership "$files/$dir/." "$root/$dir/"
done
chmod 755 "$root"/usr/local/bin/* "$root"/kind/bin/*
echo "$version" >"$root/kind/version"
for program; do
	[ "$program" = "$root" ] || install -m 755 "$program" "$root/usr/bin/"
done
ln -sf /usr/bin/containerd /usr/bin/ctr "$root/usr/local/bin/"

# Debian's iptables changes nftables, in one transaction each. Where there are no rules yet,
# the entry point would take the legacy one. It reads and writes whole tables: one of two
# ports of a pod's hostPort was lost so.
sed -i 's/^select_iptables$/:/' "$root/usr/local/bin/entrypoint"

# Without the capability SYS_RESOURCE no pod could have a low oom_score_adj.
cat >"$root/etc/containerd/config.toml" <<END
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$(chroot "$root" kubeadm config images list --kubernetes-version "$version" | grep /pause:)"
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true
END

# kind waits 30 s for the start. The images take longer, so the kubelet waits for them.
cat >"$root/kind/bin/images.sh" <<END
#!/bin/sh
set -eu
[ ! -e /var/lib/images ] || exit 0
case "\$(hostname)" in
*control-plane) list="$images/all/*.tar $images/control-plane/*.tar" ;;
*) list="$images/all/*.tar" ;;
esac
for archive in \$list; do ctr --namespace=k8s.io images import "\$archive"; done
touch /var/lib/images
END
chmod 755 "$root/kind/bin/images.sh"
cat >"$root/etc/systemd/system/images.service" <<'END'
[Unit]
Description=Images of the cluster
Requires=containerd.service
After=containerd.service
[Service]
ExecStart=/kind/bin/images.sh
Restart=on-failure
[Install]
WantedBy=multi-user.target
END
cat >"$root/etc/systemd/system/kubelet.service.d/20-images.conf" <<'END'
[Service]
ExecStartPre=/bin/sh -c 'until [ -e /var/lib/images ]; do sleep 1; done'
TimeoutStartSec=infinity
END

# systemd and the kubelet set what is the whole machine's, the kubelet unless it finds it
# set. The entry point of the image shows them files of the node's own.
rm -f "$root"/usr/lib/sysctl.d/*
cat >"$root/kind/bin/kernel.sh" <<'END'
#!/bin/sh
set -eu
own() {
	file=/run/kernel-$(basename "$1")
	echo "$2" >"$file"
	mount --bind "$file" "/proc/sys/$1"
}
own fs/file-max "$(cat /proc/sys/fs/file-max)"
own fs/nr_open "$(cat /proc/sys/fs/nr_open)"
own vm/overcommit_memory 1
own vm/panic_on_oom 0
own kernel/panic 10
own kernel/panic_on_oops 1
own kernel/keys/root_maxkeys 1000000
own kernel/keys/root_maxbytes 25000000
# The CNI turns this on for the first pod. A node that starts again without an API server
# has no pod, and forwards all the same.
echo 1 >/proc/sys/net/ipv4/ip_forward
exec "$@"
END
chmod 755 "$root/kind/bin/kernel.sh"

# Of what Debian starts a container needs nothing.
systemd=$root/usr/lib/systemd/system
[ -d "$systemd" ] || systemd=$root/lib/systemd/system
rm -f "$root"/etc/systemd/system/*.wants/* "$systemd"/multi-user.target.wants/* "$systemd"/local-fs.target.wants/* \
	"$systemd"/basic.target.wants/* "$systemd"/sockets.target.wants/*udev* "$systemd"/sockets.target.wants/*initctl* \
	"$systemd"/sysinit.target.wants/systemd-tmpfiles-setup.service
chroot "$root" systemctl mask systemd-binfmt.service
chroot "$root" systemctl enable containerd.service kubelet.service undo-mount-hacks.service images.service
echo ReadKMsg=no >>"$root/etc/systemd/journald.conf"
rm -f "$root/etc/machine-id" && touch "$root/etc/machine-id"
