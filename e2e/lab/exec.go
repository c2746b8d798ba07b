package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// enter is the command prefix that runs a program on a host: in its network
// namespace, and, on a node, in all its namespaces.
func (l *Lab) enter(host string) ([]string, error) {
	if slices.Contains(l.Nodes(), host) {
		was, ok := l.running(host)
		if !ok {
			return nil, fmt.Errorf("%s is not running", host)
		}
		return []string{"nsenter", fmt.Sprintf("--target=%d", was.pid), "--mount", "--uts", "--net", "--pid", "--"}, nil
	}
	path := filepath.Join(netnsDir, prefix+host)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("no host %q: there are %s", host, strings.Join(l.hosts(), ", "))
	}
	return []string{"nsenter", "--net=" + path, "--"}, nil
}

func (l *Lab) hosts() []string {
	return append([]string{ControlPlane, Client, Router, Ext}, l.Nodes()...)
}

// Command is a command that will run on a host of the lab.
func (l *Lab) Command(ctx context.Context, host string, args ...string) (*exec.Cmd, error) {
	enter, err := l.ground().enter(host)
	if err != nil {
		return nil, err
	}
	args = append(enter, args...)
	return exec.CommandContext(ctx, args[0], args[1:]...), nil
}

// Interruptible has the end of the command's context interrupt the command with everything
// that it has started, and gives them half a minute to end. A command that is killed leaves
// behind what it has started.
func Interruptible(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

// Exec runs a command on a host and returns its standard output.
func (l *Lab) Exec(ctx context.Context, host string, args ...string) ([]byte, error) {
	cmd, err := l.Command(ctx, host, args...)
	if err != nil {
		return nil, err
	}
	return output(cmd)
}

// KubectlCommand is a kubectl with the administrator's identity, run on the
// machine itself.
func (l *Lab) KubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	return l.adminCommand(ctx, "kubectl", args)
}

// Kubectl runs kubectl and returns its standard output.
func (l *Lab) Kubectl(ctx context.Context, args ...string) ([]byte, error) {
	return output(l.KubectlCommand(ctx, args...))
}

// HelmCommand is a helm with the administrator's identity.
func (l *Lab) HelmCommand(ctx context.Context, args ...string) *exec.Cmd {
	return l.adminCommand(ctx, "helm", args)
}

// FairleadCommand is a fairlead with the administrator's identity, run on the
// machine itself as a user does.
func (l *Lab) FairleadCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := l.adminCommand(ctx, "", args)
	cmd.Path, cmd.Args[0] = l.binary("fairlead"), "fairlead"
	cmd.Err = nil
	return cmd
}

// Helm runs helm and returns its standard output.
func (l *Lab) Helm(ctx context.Context, args ...string) ([]byte, error) {
	return output(l.HelmCommand(ctx, args...))
}

func (l *Lab) adminCommand(ctx context.Context, name string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, l.programs[name], args...)
	cmd.Env = append(os.Environ(),
		"KUBECONFIG="+l.Kubeconfig(),
		"HELM_CACHE_HOME="+l.state.file("helm"), "HELM_CONFIG_HOME="+l.state.file("helm"), "HELM_DATA_HOME="+l.state.file("helm"),
		"NO_PROXY=198.18.0.0/15")
	return cmd
}

// apply applies manifests.
func (l *Lab) apply(ctx context.Context, manifests string) error {
	cmd := l.KubectlCommand(ctx, "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(manifests)
	_, err := output(cmd)
	return err
}
