package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Stacked is a control plane of a cluster of its own, on nodes of a lab: each has an etcd, a
// kube-apiserver, and the static pod of fairlead's control-plane program. The nodes' kubelets
// are of the lab's cluster, and fairlead's agents too.
type Stacked struct {
	lab   *Lab
	vip   string
	nodes []string
	dir   string
}

// The programs of a Stacked that run beside the kubelet's pods.
const (
	StackedEtcd = "stacked-etcd"
	StackedAPI  = "stacked-apiserver"
)

// Stack makes a Stacked whose API server's address is vip, and starts it on nodes.
func (l *Lab) Stack(ctx context.Context, vip string, nodes ...string) (*Stacked, error) {
	s := &Stacked{lab: l, vip: vip, nodes: nodes, dir: l.state.file("stacked")}
	step := l.progress.Begin("control planes on %s with %s", strings.Join(nodes, ", "), vip)
	return s, step.Done(s.begin(ctx, step))
}

// begin starts the static pods first, as the kubelets of a cluster do.
func (s *Stacked) begin(ctx context.Context, step *Step) error {
	if err := s.write(); err != nil {
		return err
	}
	if err := s.admit(ctx); err != nil {
		return err
	}
	if err := s.StartNodes(s.nodes...); err != nil {
		return err
	}
	for _, n := range s.nodes {
		step.Waiting("the kube-apiserver of %s", n)
		if err := s.WaitReady(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// write makes the key of the nodes, and the certificate of the API servers by the lab's
// authority.
func (s *Stacked) write() error {
	if err := os.MkdirAll(filepath.Dir(s.key()), 0o700); err != nil {
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
	for path, data := range map[string][]byte{s.file("apiserver.crt"): id.cert, s.file("apiserver.key"): id.key, s.key(): []byte(key)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stacked) file(name string) string { return filepath.Join(s.dir, name) }

// key is the file with the key of the members. The static pod sees its folder.
func (s *Stacked) key() string { return s.file("members/key") }

// manifest is the file of a node's static pod, on the node's disk.
func (s *Stacked) manifest(node string) string {
	return filepath.Join(s.lab.state.node(node), "disk", "manifests", "fairlead-control-plane.yaml")
}

// admit gives all nodes the static pod.
func (s *Stacked) admit(ctx context.Context) error {
	text, err := run(ctx, s.lab.binary("fairlead"), "control-plane", "manifest", "--address="+s.vip, "--members="+strings.Join(s.addresses(), ","),
		"--key-file="+s.key(), "--ca-file="+s.lab.pki("ca.crt"), "--image="+FairleadImage)
	if err != nil {
		return err
	}
	for _, n := range s.nodes {
		// A kubelet must not see half of it.
		half := s.file(n + ".yaml")
		if err := os.WriteFile(half, text, 0o600); err != nil {
			return err
		}
		if err := os.Rename(half, s.manifest(n)); err != nil {
			return err
		}
	}
	return nil
}

// Dismiss takes the static pod from a node, waits for its end, and removes what it left in
// the node's kernel.
func (s *Stacked) Dismiss(ctx context.Context, node string) error {
	if err := os.Remove(s.manifest(node)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := Until(ctx, 2*time.Minute, "the end of the static pod on "+node, func(ctx context.Context) error {
		_, err := s.lab.Exec(ctx, node, "sh", "-c", `! pgrep -f "^/fairlead control-plane"`)
		return err
	})
	if err != nil {
		return err
	}
	_, err = s.lab.Exec(ctx, node, s.lab.binary("fairlead"), "control-plane", "cleanup")
	return err
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
	for _, n := range s.nodes {
		out = append(out, s.lab.NodeAddress(n))
	}
	return out
}

// StartNodes starts etcd and API server of nodes, such as after they had no power. An API
// server waits some seconds for an etcd with a quorum.
func (s *Stacked) StartNodes(nodes ...string) error {
	for _, program := range []string{StackedEtcd, StackedAPI} {
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
	args := map[string]func(string) []string{StackedEtcd: s.etcd, StackedAPI: s.apiServer}[program]
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

// Remove ends everything.
func (s *Stacked) Remove(ctx context.Context) error {
	var errs []error
	for _, n := range s.nodes {
		if !s.lab.NodeRuns(n) {
			errs = append(errs, os.Remove(s.manifest(n)))
			continue
		}
		errs = append(errs, s.Dismiss(ctx, n), s.Stop(ctx, n, StackedAPI), s.Stop(ctx, n, StackedEtcd))
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

func (s *Stacked) etcd(node string) []string {
	at := s.lab.NodeAddress(node)
	var all []string
	for _, n := range s.nodes {
		all = append(all, fmt.Sprintf("%s=http://%s:12380", n, s.lab.NodeAddress(n)))
	}
	return []string{
		s.lab.programs["etcd"], "--name=" + node,
		"--data-dir=" + s.file("etcd-"+node),
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
			arg = name + "=" + s.file("apiserver.crt")
		case "--tls-private-key-file":
			arg = name + "=" + s.file("apiserver.key")
		}
		mine = append(mine, arg)
	}
	return mine
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
