// Package debian makes root file systems of Debian's packages, from the archive that
// this machine's own apt uses.
package debian

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

	"github.com/fairlead/fairlead/e2e/lab"
)

// Suite is the Debian release of the root file systems. Its systemd is the last one
// that starts where the machine has cgroups v1, alone or beside v2.
const Suite = "bookworm"

// Mirror is where the machine gets Debian's packages from.
func Mirror(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(ORIGIN) $(SITE) $(RELEASE)", "Identifier: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		// Debian's archives for updates and security have other suites.
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "Debian" && !strings.Contains(fields[2], "-") {
			return fields[1], nil
		}
	}
	return "", errors.New("this machine's apt knows no Debian archive")
}

// room is how many bytes a disk has to have free: a root file system and what it is made
// of, programs, and the images around them.
const room = 4 << 30

// Possible returns why this machine cannot make root file systems below dir, which need not
// exist yet: it lacks root, mmdebstrap, or room.
func Possible(dir string) error {
	if os.Geteuid() != 0 {
		return errors.New("this is not root, which a root file system needs")
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		return fmt.Errorf("%w: install Debian's package mmdebstrap", err)
	}
	return hasRoom(dir, room)
}

// hasRoom returns an error if the disk of dir has fewer bytes free.
func hasRoom(dir string, bytes uint64) error {
	var s unix.Statfs_t
	err := unix.Statfs(dir, &s)
	if errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
		return hasRoom(filepath.Dir(dir), bytes)
	}
	if err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	if free := s.Bavail * uint64(s.Bsize); free < bytes {
		return fmt.Errorf("%s has %.1f GB free, and this needs %.1f GB", dir, float64(free)/1e9, float64(bytes)/1e9)
	}
	return nil
}

// RootFS describes a root file system.
type RootFS struct {
	Packages []string
	Hook     string // a shell command that changes it, in which "$1" is its directory; none if empty
}

// args are the arguments of mmdebstrap that write it to the tar archive out.
func (r RootFS) args(mirror, out string) []string {
	args := []string{"--quiet", "--variant=minbase", "--include=" + strings.Join(r.Packages, ",")}
	for _, left := range []string{"/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"} {
		args = append(args, "--dpkgopt=path-exclude="+left)
	}
	if r.Hook != "" {
		args = append(args, "--customize-hook="+r.Hook)
	}
	return append(args, Suite, out, mirror)
}

// Write writes the root file system to the tar archive at path, whole or not at all. It
// asks for root and mmdebstrap.
func (r RootFS) Write(ctx context.Context, path string) error {
	mirror, err := Mirror(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".making-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	made := filepath.Join(dir, filepath.Base(path))
	// mmdebstrap has children, which write on when it alone is killed.
	cmd := lab.Interruptible(exec.CommandContext(ctx, "mmdebstrap", r.args(mirror, made)...))
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("mmdebstrap: %w\n%s", err, out))
	}
	return os.Rename(made, path)
}

// userland has what Kubernetes' tests and kube-proxy start in a container.
var userland = RootFS{
	Packages: []string{"bash", "ca-certificates", "conntrack", "curl", "dnsutils", "iproute2", "iptables", "jq", "kmod", "netcat-openbsd", "nftables", "wget"},
	// wget would try again for minutes. BusyBox's, which does not, crashes with a timeout.
	Hook: `echo "tries = 1" >>"$1/etc/wgetrc"`,
}

// Userland returns the path of a root file system with bash, wget, curl, nft
// and other tools, for images. It is made once for each of its versions, in dir.
func Userland(ctx context.Context, dir string) (string, error) {
	key := sha256.Sum256(fmt.Append(nil, userland, Suite))
	path := filepath.Join(dir, fmt.Sprintf("userland-%x.tar", key[:6]))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, userland.Write(ctx, path)
}
