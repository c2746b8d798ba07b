// Package apiserver runs a real etcd and kube-apiserver on this machine's
// loopback, and kube-controller-manager if it is asked to, without nodes, for tests
// of what only talks to the API. It takes a few seconds, needs no root, and several
// may run at once, beside a lab too.
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/fairlead/fairlead/e2e/lab"
)

// Server is a running API server.
type Server struct {
	Kubeconfig string // of an administrator
	etcd       string // URL, without any access control
	dir        string
	programs   map[string]string
	started    []*program
}

// Start is StartBare and brings fairlead's kinds.
func Start(ctx context.Context, dir string, out io.Writer, flags ...string) (*Server, error) {
	s, err := StartBare(ctx, dir, out, flags...)
	if err != nil {
		return nil, err
	}
	if err := s.install(ctx); err != nil {
		s.Stop()
		return nil, s.failed(err)
	}
	return s, nil
}

// StartBare starts a Server with an empty etcd below dir, which also gets the logs. The
// API server gets flags too.
func StartBare(ctx context.Context, dir string, out io.Writer, flags ...string) (*Server, error) {
	s := &Server{dir: dir, Kubeconfig: filepath.Join(dir, "admin.kubeconfig")}
	if err := s.start(ctx, out, flags); err != nil {
		s.Stop()
		return nil, s.failed(err)
	}
	return s, nil
}

func (s *Server) failed(err error) error {
	return fmt.Errorf("API server: %w; logs are in %s", err, s.dir)
}

func (s *Server) start(ctx context.Context, out io.Writer, flags []string) error {
	var err error
	if s.programs, err = lab.ControlPlanePrograms(ctx, lab.Options{Out: out, Kubernetes: os.Getenv(lab.VersionEnv)}); err != nil {
		return err
	}
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	token, err := s.writeCredentials(ports[2])
	if err != nil {
		return err
	}
	s.etcd = fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	client, peer := s.etcd, fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	err = s.run("etcd", "--name=test", "--data-dir="+s.file("etcd"), "--unsafe-no-fsync",
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=test="+peer)
	if err != nil {
		return err
	}
	err = s.run("kube-apiserver", append(flags, "--etcd-servers="+client, fmt.Sprintf("--secure-port=%d", ports[2]),
		"--bind-address=127.0.0.1", "--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none",
		"--cert-dir="+s.file("certs"), "--token-auth-file="+token, "--authorization-mode=RBAC",
		"--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+s.file("accounts.key"), "--service-account-signing-key-file="+s.file("accounts.key"))...)
	if err != nil {
		return err
	}
	return s.until(ctx, "/readyz", func() error { _, err := s.Kubectl(ctx, "get", "--raw=/readyz"); return err })
}

// install brings fairlead's kinds.
func (s *Server) install(ctx context.Context) error {
	root, err := lab.Checkout()
	if err != nil {
		return err
	}
	if _, err := s.Kubectl(ctx, "create", "-f", filepath.Join(root, "charts", "fairlead", "files", "crds")); err != nil {
		return err
	}
	_, err = s.Kubectl(ctx, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	return err
}

// Kubectl runs kubectl as an administrator and returns its standard output.
func (s *Server) Kubectl(ctx context.Context, args ...string) (string, error) {
	return s.client(ctx, "kubectl", args)
}

// Helm runs helm as an administrator and returns its standard output.
func (s *Server) Helm(ctx context.Context, args ...string) (string, error) {
	return s.client(ctx, "helm", args)
}

func (s *Server) client(ctx context.Context, program string, args []string) (string, error) {
	cmd := exec.CommandContext(ctx, s.programs[program], args...)
	home := s.file("helm")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.Kubeconfig, "HOME="+s.dir, "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	var out, problems strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(problems.String()))
	}
	return out.String(), nil
}

// Stop ends the programs. What they wrote stays.
func (s *Server) Stop() {
	for i := len(s.started) - 1; i >= 0; i-- {
		s.started[i].stop()
	}
}

// until asks check again and again for a minute, as long as all programs run.
func (s *Server) until(ctx context.Context, what string, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		for _, p := range s.started {
			if p.ended() {
				return fmt.Errorf("%s has ended", p.name)
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait for %s: %w", what, ctx.Err()), err)
		}
	}
}

func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }

// freePorts asks the kernel for ports that nobody listens on.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
