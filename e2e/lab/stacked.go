package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Stacked is a control plane of a cluster of its own, on the nodes of a lab: each has an
// etcd, a kube-apiserver and fairlead's control-plane program. The nodes' kubelets are of
// the lab's cluster, and fairlead's agents too.
type Stacked struct {
	lab *Lab
	vip string
	dir string
}

// The programs of a Stacked on each node.
const (
	StackedEtcd     = "stacked-etcd"
	StackedAPI      = "stacked-apiserver"
	StackedFairlead = "stacked-fairlead"
)

// Stack makes a Stacked whose API server's address is vip, and starts it on all nodes.
func (l *Lab) Stack(ctx context.Context, vip string) (*Stacked, error) {
	s := &Stacked{lab: l, vip: vip, dir: l.state.file("stacked")}
	if err := s.write(); err != nil {
		return nil, err
	}
	step := l.progress.Begin("three control planes with %s", vip)
	if err := s.StartNodes(l.Nodes()...); err != nil {
		return nil, step.Done(err)
	}
	for _, n := range l.Nodes() {
		step.Waiting("the kube-apiserver of %s", n)
		if err := s.WaitReady(ctx, n); err != nil {
			return nil, step.Done(err)
		}
	}
	return s, step.Done(nil)
}

// write makes the key of the nodes, and the certificate of the API servers by the lab's
// authority.
func (s *Stacked) write() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	ca, err := loadAuthority(s.lab.pki("ca.crt"), s.lab.pki("ca.key"))
	if err != nil {
		return err
	}
	t := certificate("kube-apiserver")
	t.DNSNames = []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	for _, ip := range append(s.addresses(), s.vip, "127.0.0.1", kubernetesIPv4) {
		t.IPAddresses = append(t.IPAddresses, net.ParseIP(ip))
	}
	id, err := ca.issue(t)
	if err != nil {
		return err
	}
	const key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n"
	for name, data := range map[string][]byte{"apiserver.crt": id.cert, "apiserver.key": id.key, "members.key": []byte(key)} {
		if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func loadAuthority(certFile, keyFile string) (*authority, error) {
	text, err := os.ReadFile(certFile)
	keyText, err2 := os.ReadFile(keyFile)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	keyBlock, _ := pem.Decode(keyText)
	if block == nil || keyBlock == nil {
		return nil, errors.New("the lab's authority is not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key.(*ecdsa.PrivateKey), pem: text}, nil
}

func (s *Stacked) addresses() (out []string) {
	for _, n := range s.lab.Nodes() {
		out = append(out, s.lab.NodeAddress(n))
	}
	return out
}

// StartNodes starts all programs of nodes, such as after they had no power. An API server
// waits some seconds for an etcd with a quorum.
func (s *Stacked) StartNodes(nodes ...string) error {
	for _, program := range []string{StackedEtcd, StackedAPI, StackedFairlead} {
		for _, node := range nodes {
			if err := s.Start(node, program); err != nil {
				return err
			}
		}
	}
	return nil
}

// Start starts a program of a node.
func (s *Stacked) Start(node, program string) error {
	n, err := s.lab.node(node)
	if err != nil {
		return err
	}
	args := map[string]func(string) []string{StackedEtcd: s.etcd, StackedAPI: s.apiServer, StackedFairlead: s.fairlead}[program]
	return s.lab.startIn(n, program, args(node)...)
}

// Runs reports whether a program of a node runs.
func (s *Stacked) Runs(node, program string) bool {
	_, ok := s.lab.running(node + "-" + program)
	return ok
}

// Stop kills a program of a node.
func (s *Stacked) Stop(ctx context.Context, node, program string) error {
	return s.lab.stop(ctx, node+"-"+program)
}

// Remove kills everything.
func (s *Stacked) Remove(ctx context.Context) error {
	var errs []error
	for _, n := range s.lab.Nodes() {
		if !s.lab.NodeRuns(n) {
			continue
		}
		for _, p := range []string{StackedFairlead, StackedAPI, StackedEtcd} {
			errs = append(errs, s.Stop(ctx, n, p))
		}
		_, err := s.lab.Exec(ctx, n, s.lab.binary("fairlead"), "control-plane", "cleanup")
		errs = append(errs, err)
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

func (s *Stacked) etcd(node string) []string {
	at := s.lab.NodeAddress(node)
	var all []string
	for _, n := range s.lab.Nodes() {
		all = append(all, fmt.Sprintf("%s=http://%s:12380", n, s.lab.NodeAddress(n)))
	}
	return []string{
		s.lab.programs["etcd"], "--name=" + node,
		"--data-dir=" + filepath.Join(s.dir, "etcd-"+node),
		"--listen-client-urls=http://127.0.0.1:12379", "--advertise-client-urls=http://127.0.0.1:12379",
		"--listen-peer-urls=http://" + at + ":12380", "--initial-advertise-peer-urls=http://" + at + ":12380",
		"--initial-cluster=" + strings.Join(all, ","), "--unsafe-no-fsync",
	}
}

func (s *Stacked) apiServer(node string) []string {
	mine := []string{s.lab.programs[apiServer], "--advertise-address=" + s.lab.NodeAddress(node)}
	for _, arg := range s.lab.apiServerArgs() {
		switch name, _, _ := strings.Cut(arg, "="); name {
		case "--etcd-servers":
			arg = name + "=http://127.0.0.1:12379"
		case "--advertise-address":
			continue
		case "--tls-cert-file":
			arg = name + "=" + filepath.Join(s.dir, "apiserver.crt")
		case "--tls-private-key-file":
			arg = name + "=" + filepath.Join(s.dir, "apiserver.key")
		}
		mine = append(mine, arg)
	}
	return mine
}

func (s *Stacked) fairlead(node string) []string {
	return []string{
		s.lab.binary("fairlead"), "control-plane", "--address=" + s.vip, "--members=" + strings.Join(s.addresses(), ","),
		"--key-file=" + filepath.Join(s.dir, "members.key"), "--ca-file=" + s.lab.pki("ca.crt"), "--state-dir=", "--log-level=debug",
	}
}

// WaitReady waits until a node's kube-apiserver lives.
func (s *Stacked) WaitReady(ctx context.Context, node string) error {
	client, err := s.lab.apiClient()
	if err != nil {
		return err
	}
	return Until(ctx, 5*time.Minute, "the kube-apiserver of "+node, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://%s:%d/livez", s.lab.NodeAddress(node), APIPort), nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}
