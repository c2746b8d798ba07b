package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/e2e/debian"
	"github.com/fairlead/fairlead/e2e/kind"
	"github.com/fairlead/fairlead/e2e/lab"
)

// images is the directory of the archives that the nodes import when they start.
func (c cluster) images() string { return filepath.Join(c.State, "images") }

// nodeStore makes the nodes' image, unless the cache has it, and returns the directory of
// Podman's that holds it.
func (c cluster) nodeStore(ctx context.Context) (string, error) {
	n, err := c.node(ctx)
	if err != nil {
		return "", err
	}
	key := sha256.Sum256(fmt.Append(nil, n, kind.NodeScript, n.RootFS().Packages))
	store := filepath.Join(lab.Cache(), "kind", fmt.Sprintf("node-%x", key[:6]))
	if _, err := os.Stat(store); !errors.Is(err, fs.ErrNotExist) {
		return store, err
	}
	fmt.Println("making the nodes' image: 2 minutes, once")
	if err := errors.Join(write(n.Script, kind.NodeScript, 0o755), c.ownPodman()); err != nil {
		return "", err
	}
	archive, making := store+".tar", store+".making"
	defer func() { _ = errors.Join(os.RemoveAll(archive), os.RemoveAll(making)) }()
	if err := n.RootFS().Write(ctx, archive); err != nil {
		return "", err
	}
	if err := execute(ctx, c.Import(archive, making), ""); err != nil {
		return "", err
	}
	return store, os.Rename(making, store)
}

// node is what the nodes' image is made of.
func (c cluster) node(ctx context.Context) (kind.Node, error) {
	programs, err := lab.NodePrograms(ctx, lab.Options{})
	if err != nil {
		return kind.Node{}, err
	}
	version, err := version(ctx, programs)
	if err != nil {
		return kind.Node{}, err
	}
	n := kind.Node{Script: filepath.Join(c.State, "node.sh"), Version: version, Images: c.images()}
	for _, name := range []string{"kubeadm", "kubelet", "kubectl"} {
		n.Programs = append(n.Programs, programs[name])
	}
	n.Files, err = lab.KindFiles(ctx)
	return n, err
}

// version is that of Kubernetes, as kubeadm says it.
func version(ctx context.Context, programs map[string]string) (string, error) {
	text, err := out(ctx, kind.Command{Args: []string{programs["kubeadm"], "version", "-o", "short"}})
	return strings.TrimSpace(string(text)), err
}

// fairlead builds the stories and what they build, which in the cluster's network could
// not ask for a module.
func (c cluster) fairlead(ctx context.Context) error {
	root, err := lab.Checkout()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "fairlead-kind-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if _, err := lab.BuildShipped(ctx, dir); err != nil {
		return err
	}
	return execute(ctx, kind.Command{Args: []string{"go", "test", "-c", "-o", dir + "/", "./stories/..."}}, filepath.Join(root, "e2e"))
}

// ownPodman writes the files of a Podman that leaves the machine's own alone. Without a
// store, which removes a cluster, those are kept that the cluster was made with.
func (c cluster) ownPodman() error {
	program, err := exec.LookPath("podman")
	if err != nil {
		return err
	}
	var files, processes unix.Rlimit
	if err := errors.Join(unix.Getrlimit(unix.RLIMIT_NOFILE, &files), unix.Getrlimit(unix.RLIMIT_NPROC, &processes)); err != nil {
		return err
	}
	for path, text := range c.Podman(program, c.store, kind.Limits{Files: min(files.Max, 1<<16), Processes: min(processes.Max, 30000)}) {
		if _, err := os.Stat(path); c.store == "" && err == nil {
			continue
		}
		if err := write(path, text, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// furnish writes the archives of the images that kubeadm starts.
func (c cluster) furnish(ctx context.Context) error {
	programs, err := lab.NodePrograms(ctx, lab.Options{})
	if err != nil {
		return err
	}
	root, err := lab.Checkout()
	if err != nil {
		return err
	}
	programs["pause"] = filepath.Join(c.State, "bin", "pause")
	build := kind.Command{Env: []string{"CGO_ENABLED=0"}, Args: []string{"go", "build", "-trimpath", "-ldflags=-s -w", "-o", programs["pause"], "./cmd/pause"}}
	if err := execute(ctx, build, filepath.Join(root, "e2e")); err != nil {
		return err
	}
	version, err := version(ctx, programs)
	if err != nil {
		return err
	}
	references, err := out(ctx, kind.Command{Args: []string{programs["kubeadm"], "config", "images", "list", "--kubernetes-version=" + version}})
	if err != nil {
		return err
	}
	for _, i := range kind.SystemImages(string(references)) {
		path := filepath.Join(c.images(), i.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := c.systemImage(ctx, i, path, programs[i.Program]); err != nil {
			return err
		}
	}
	return nil
}

// systemImage writes the archive of one image. kube-proxy starts nft and others, which a
// program alone has not.
func (c cluster) systemImage(ctx context.Context, i kind.SystemImage, path, program string) error {
	if i.Program != "kube-proxy" {
		return lab.WriteImage(path, i.Reference, program, i.Program)
	}
	if !c.KubeProxy {
		return nil
	}
	base, err := debian.Userland(ctx, filepath.Join(lab.Cache(), "debian"))
	if err != nil {
		return err
	}
	return lab.WriteImageOn(base, path, i.Reference, program, "usr/local/bin/kube-proxy")
}

func write(path, text string, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), mode)
}
