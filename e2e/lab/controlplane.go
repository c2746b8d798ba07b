package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

const apiServer = "kube-apiserver"

// startControlPlane starts etcd, the API server, and what needs it, and
// returns when the API server says that it is ready.
func (l *Lab) startControlPlane(ctx context.Context) error {
	step := l.progress.Begin("control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler")
	return step.Done(l.bootControlPlane(ctx, step))
}

func (l *Lab) bootControlPlane(ctx context.Context, step *Step) error {
	if err := os.MkdirAll(l.state.file("etcd"), 0o700); err != nil {
		return err
	}
	if err := l.startProgram("etcd", l.etcdArgs()); err != nil {
		return err
	}
	// The API server tries etcd until it answers.
	if err := l.startProgram(apiServer, l.apiServerArgs()); err != nil {
		return err
	}
	step.Waiting("kube-apiserver to be ready")
	if err := l.waitAPI(ctx); err != nil {
		return err
	}
	return l.startControllers()
}

const (
	controllerManager = "kube-controller-manager"
	scheduler         = "kube-scheduler"
)

func (l *Lab) startControllers() error {
	if err := l.startProgram(controllerManager, l.controllerManagerArgs()); err != nil {
		return err
	}
	return l.startProgram(scheduler, []string{
		"--kubeconfig=" + l.pki("scheduler.kubeconfig"),
		"--leader-elect=false",
		"--bind-address=127.0.0.1",
	})
}

// startProgram starts one of the built programs on the control plane.
func (l *Lab) startProgram(name string, args []string) error {
	enter, err := l.enter(ControlPlane)
	if err != nil {
		return err
	}
	return l.start(process{name: name, enter: enter, args: append([]string{l.programs[name]}, args...)})
}

func (l *Lab) etcdArgs() []string {
	return []string{
		"--name=lab",
		"--data-dir=" + l.state.file("etcd"),
		"--listen-client-urls=http://127.0.0.1:2379",
		"--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380",
		"--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=lab=http://127.0.0.1:2380",
		"--unsafe-no-fsync", // nothing here is to survive the machine
	}
}

func (l *Lab) apiServerArgs() []string {
	return []string{
		"--etcd-servers=http://127.0.0.1:2379",
		"--advertise-address=" + APIHost,
		"--bind-address=::",
		fmt.Sprintf("--secure-port=%d", APIPort),
		"--service-cluster-ip-range=" + l.opt.Services + "," + serviceIPv6,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--client-ca-file=" + l.pki("ca.crt"),
		"--tls-cert-file=" + l.pki("apiserver.crt"),
		"--tls-private-key-file=" + l.pki("apiserver.key"),
		"--kubelet-client-certificate=" + l.pki("kubelet-client.crt"),
		"--kubelet-client-key=" + l.pki("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + l.pki("service-accounts.crt"),
		"--service-account-signing-key-file=" + l.pki("service-accounts.key"),
	}
}

func (l *Lab) controllerManagerArgs() []string {
	return []string{
		"--kubeconfig=" + l.pki("controller-manager.kubeconfig"),
		"--leader-elect=false",
		"--bind-address=127.0.0.1",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + l.pki("service-accounts.key"),
		"--root-ca-file=" + l.pki("ca.crt"),
		"--cluster-signing-cert-file=" + l.pki("ca.crt"),
		"--cluster-signing-key-file=" + l.pki("ca.key"),
		"--allocate-node-cidrs=false", // the lab writes them, the same on every run
	}
}

// waitAPI waits until the API server is ready, its bootstrap roles included.
func (l *Lab) waitAPI(ctx context.Context) error {
	client, err := l.apiClient()
	if err != nil {
		return err
	}
	return Until(ctx, 2*time.Minute, "kube-apiserver", func(ctx context.Context) error {
		if _, ok := l.running(apiServer); !ok {
			return fmt.Errorf("it is not running, see %s", l.state.log(apiServer))
		}
		return apiReady(ctx, client)
	})
}

// apiClient trusts the lab's authority. It has no identity: readiness is
// public.
func (l *Lab) apiClient() (*http.Client, error) {
	ca, err := os.ReadFile(l.pki("ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		Proxy: nil, TLSClientConfig: &tls.Config{RootCAs: pool},
	}}, nil
}

func apiReady(ctx context.Context, client *http.Client) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://%s:%d/readyz", APIHost, APIPort), nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, lastLines(string(body), 3))
	}
	return nil
}
