package kernels

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/fairlead/fairlead/e2e/debian"
)

// metaPackage depends on a suite's newest kernel for virtual machines.
const metaPackage = "linux-image-cloud-amd64"

// Image is one version of a kernel in the cache.
type Image struct {
	Kernel
	Version string // Debian's, such as 6.1.176-1
	Dir     string // has the files of the constants below
}

// The files of an Image.
const (
	vmlinuz = "vmlinuz"
	modules = "modules.cpio" // an initramfs that holds lib/modules
)

// Fetch returns the newest version of k that is in the cache. If the cache has no version
// of k, or fresh is true, it asks the package server for the suite's newest.
func Fetch(ctx context.Context, k Kernel, cache string, fresh bool) (Image, error) {
	if !fresh {
		if found, ok := cached(ctx, k, cache); ok {
			return found, nil
		}
	}
	work, err := os.MkdirTemp("", "fairlead-kernel-")
	if err != nil {
		return Image{}, err
	}
	defer func() { _ = os.RemoveAll(work) }()
	image, err := fetch(ctx, k, cache, work)
	if err != nil {
		return Image{}, fmt.Errorf("fetch kernel %s: %w", k, err)
	}
	return image, nil
}

// cached is the image of k that was added last.
func cached(ctx context.Context, k Kernel, cache string) (Image, bool) {
	dirs, _ := filepath.Glob(filepath.Join(cache, k.Series, "*", vmlinuz))
	newest := ""
	for _, file := range dirs {
		version := filepath.Base(filepath.Dir(file))
		if newest == "" || exec.CommandContext(ctx, "dpkg", "--compare-versions", version, "gt", newest).Run() == nil {
			newest = version
		}
	}
	return Image{k, newest, filepath.Join(cache, k.Series, newest)}, newest != ""
}

func fetch(ctx context.Context, k Kernel, cache, work string) (Image, error) {
	apt, err := newApt(ctx, k.Suite, work)
	if err != nil {
		return Image{}, err
	}
	names, version, err := apt.resolve(ctx, k)
	if err != nil {
		return Image{}, err
	}
	image := Image{k, version, filepath.Join(cache, k.Series, version)}
	if _, err := os.Stat(filepath.Join(image.Dir, vmlinuz)); err == nil {
		return image, nil
	}
	fmt.Printf("fetching kernel %s\n", version)
	root := filepath.Join(work, "root")
	if err := apt.unpack(ctx, names, root); err != nil {
		return Image{}, err
	}
	return image, add(ctx, image, root)
}

// apt is apt-get with files of its own: it changes nothing of the machine's.
type apt struct {
	dir     string
	options []string
}

func newApt(ctx context.Context, suite, work string) (apt, error) {
	mirror, err := debian.Mirror(ctx)
	if err != nil {
		return apt{}, err
	}
	a := apt{dir: work}
	for _, dir := range []string{"state/lists/partial", "cache/archives/partial", "root"} {
		if err := os.MkdirAll(filepath.Join(work, dir), 0o755); err != nil {
			return apt{}, err
		}
	}
	source := fmt.Sprintf("Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nArchitectures: amd64\n"+
		"Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n", mirror, suite)
	list := filepath.Join(work, "kernel.sources")
	for _, option := range []string{
		"Dir::Etc::sourcelist=" + list, "Dir::Etc::sourceparts=-", "Dir::State=" + filepath.Join(work, "state"),
		"Dir::State::status=/dev/null", "Dir::Cache=" + filepath.Join(work, "cache"), "APT::Architecture=amd64",
		"Acquire::Languages=none", "APT::Sandbox::User=root",
	} {
		a.options = append(a.options, "-o", option)
	}
	if err := os.WriteFile(list, []byte(source), 0o644); err != nil {
		return apt{}, err
	}
	_, err = a.run(ctx, "apt-get", "-qq", "update")
	return a, err
}

func (a apt) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, append(a.options, args...)...)
	cmd.Dir = a.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// resolve returns the packages of the suite's newest kernel, and its version.
func (a apt) resolve(ctx context.Context, k Kernel) (names []string, version string, err error) {
	policy, err := a.run(ctx, "apt-cache", "policy", metaPackage)
	if err != nil {
		return nil, "", err
	}
	found := regexp.MustCompile(`Candidate: (\S+)`).FindStringSubmatch(policy)
	if found == nil || !strings.HasPrefix(found[1], k.Series+".") {
		return nil, "", fmt.Errorf("%s has no kernel %s: apt-cache policy says\n%s", k.Suite, k, policy)
	}
	depends, err := a.run(ctx, "apt-cache", "depends", "--recurse", "--important", metaPackage)
	return kernelPackages(depends), found[1], err
}

func (a apt) unpack(ctx context.Context, names []string, root string) error {
	if _, err := a.run(ctx, "apt-get", append([]string{"-qq", "download"}, names...)...); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(a.dir, "*.deb"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := command(ctx, "dpkg-deb", "--extract", file, root); err != nil {
			return err
		}
	}
	return nil
}

// add writes the files of an image from its unpacked packages. The last one is
// vmlinuz, by which an image is known to be complete.
func add(ctx context.Context, image Image, root string) error {
	tree, err := one(filepath.Join(root, "lib/modules/*"), filepath.Join(root, "usr/lib/modules/*"))
	if err != nil {
		return err
	}
	kernel, err := one(filepath.Join(root, "boot/vmlinuz-*"), filepath.Join(tree, vmlinuz))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(image.Dir, 0o755); err != nil {
		return err
	}
	if err := writeModules(ctx, tree, filepath.Join(image.Dir, modules)); err != nil {
		return err
	}
	unfinished := filepath.Join(image.Dir, vmlinuz+".new")
	if err := command(ctx, "cp", kernel, unfinished); err != nil {
		return err
	}
	return os.Rename(unfinished, filepath.Join(image.Dir, vmlinuz))
}

// moduleDirs are the modules that a guest has: the network's, and what these need.
var moduleDirs = []string{"kernel/net", "kernel/drivers/net", "kernel/lib", "kernel/crypto", "kernel/arch"}

// writeModules packs the modules of a tree, lib/modules/VERSION, with modprobe's index.
func writeModules(ctx context.Context, tree, file string) error {
	version := filepath.Base(tree)
	base, err := os.MkdirTemp(filepath.Dir(tree), "slim-")
	if err != nil {
		return err
	}
	target := filepath.Join(base, "lib/modules", version)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	args := []string{"-a", "--parents"}
	for _, dir := range append([]string{"modules.order", "modules.builtin", "modules.builtin.modinfo"}, moduleDirs...) {
		if _, err := os.Stat(filepath.Join(tree, dir)); err == nil {
			args = append(args, dir)
		}
	}
	cmd := exec.CommandContext(ctx, "cp", append(args, target)...)
	cmd.Dir = tree
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w\n%s", err, out)
	}
	// The guest is slow: nothing is left for it to decompress.
	if err := command(ctx, "find", target, "-name", "*.ko.xz", "-exec", "xz", "-d", "{}", "+"); err != nil {
		return err
	}
	if err := command(ctx, "depmod", "-b", base, version); err != nil {
		return err
	}
	var a archive
	if err := a.addTree(base, ""); err != nil {
		return err
	}
	return os.WriteFile(file, a.bytes(), 0o644)
}

// one is the only file that matches any of the patterns.
func one(patterns ...string) (string, error) {
	var found []string
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		found = append(found, files...)
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%s: %d files, want one", strings.Join(patterns, " or "), len(found))
	}
	return found[0], nil
}

func command(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
