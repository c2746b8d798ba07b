package kind

import (
	_ "embed"
	"path"
	"strings"

	"github.com/fairlead/fairlead/e2e/debian"
)

// NodeImage is the image of the nodes that is made here, for Podman.
const NodeImage = "fairlead.test/kind-node:dev"

// NodeScript makes a node of kind's out of a Debian root file system.
//
//go:embed node.sh
var NodeScript string

// Node is what NodeImage is made of.
type Node struct {
	Script   string   // path of NodeScript
	Files    string   // directory of the files that kind's own node image has
	Version  string   // of Kubernetes
	Images   string   // directory on every node, see Images
	Programs []string // paths of kubeadm, kubelet and kubectl
}

// packages are what kind's own node image has of Debian's, and what the stories use: the
// image is also that of the client, the router and the host behind it.
var packages = []string{
	"systemd", "systemd-sysv", "dbus", "bash", "ca-certificates", "curl", "jq", "procps", "kmod", "mount", "util-linux",
	"containerd", "runc", "containernetworking-plugins", "conntrack", "iptables", "nftables", "iproute2", "ethtool",
	"iputils-ping", "socat", "tcpdump", "netbase", "frr", "e2fsprogs",
}

// RootFS is the root file system of NodeImage.
func (n Node) RootFS() debian.RootFS {
	hook := append([]string{"sh", n.Script, n.Files, n.Version, n.Images}, n.Programs...)
	return debian.RootFS{Packages: packages, Hook: strings.Join(hook, " ") + ` "$1"`}
}

// SystemImage is an image that kubeadm starts.
type SystemImage struct {
	Reference string
	Program   string // its name, in the image's root
	Path      string // of its archive, below the directory Images
}

// SystemImages are the images of references, which "kubeadm config images list" has
// printed, a line each. Workers have those alone that run on every node.
func SystemImages(references string) []SystemImage {
	var list []SystemImage
	for _, ref := range strings.Fields(references) {
		name, _, _ := strings.Cut(path.Base(ref), ":")
		dir := "control-plane"
		if name == "pause" || name == "coredns" || name == "kube-proxy" {
			dir = "all"
		}
		list = append(list, SystemImage{ref, name, path.Join(dir, name+".tar")})
	}
	return list
}
