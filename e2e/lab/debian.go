package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// debianPackage is a Debian or Ubuntu package, and a program that it holds.
type debianPackage struct{ program, name string }

// debianPackages are those that every lab runs programs of.
var debianPackages = []debianPackage{
	{"containerd", "containerd"},
	{"runc", "runc"},
	{"/usr/lib/cni/ptp", "containernetworking-plugins"},
	{"nft", "nftables"},
	{"ip", "iproute2"},
	{"conntrack", "conntrack"},
	{"ping", "iputils-ping"},
	{"nsenter", "util-linux"},
	{"sysctl", "procps"},
	{"mount", "mount"},
	{"iptables", "iptables"}, // the kubelet asks for it
}

// installPackages installs what is missing, by name, and says so.
func installPackages(ctx context.Context, progress *Progress, packages []debianPackage) error {
	missing := missingPackages(packages)
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("missing: %s; install them (no apt-get here to do it)", strings.Join(missing, " "))
	}
	step := progress.Begin("installing Debian packages: %s", strings.Join(missing, " "))
	return step.Done(aptInstall(ctx, step, packages, missing))
}

func missingPackages(packages []debianPackage) []string {
	var missing []string
	for _, p := range packages {
		if _, err := exec.LookPath(p.program); err != nil {
			missing = append(missing, p.name)
		}
	}
	return missing
}

func aptInstall(ctx context.Context, step *Step, packages []debianPackage, names []string) error {
	step.Waiting("apt-get update")
	if err := apt(ctx, "update"); err != nil {
		return err
	}
	step.Waiting("apt-get install")
	if err := apt(ctx, append([]string{"install", "--yes", "--no-install-recommends"}, names...)...); err != nil {
		return err
	}
	if still := missingPackages(packages); len(still) > 0 {
		return errors.New("still missing after apt-get install: " + strings.Join(still, " "))
	}
	return nil
}

func apt(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	_, err := output(cmd)
	return err
}
