package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead/fairlead/e2e/kind"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/internal/controlplane"
	"github.com/fairlead/fairlead/internal/controlplane/livez"
)

// patience is how long anything may take.
const patience = 5 * time.Minute

// mostSilence is how long a loss of power may leave a client without an answer: ten times
// what is promised, as the machine may be busy.
const mostSilence = 10 * time.Second

// kubeadm makes three control planes with kubeadm, from nothing, and cuts the power of the one
// that has the API server's address. It removes them, also after an interrupt.
func (c cluster) kubeadm(ctx context.Context, keep bool) error {
	fmt.Println("kubeadm on Podman: three control planes, in 3 minutes. The first time programs and images are made before, 15 minutes of CPU time")
	if c.Engine != kind.Podman {
		return errors.New("kubeadm needs the nodes' image that is made here: give -engine=podman")
	}
	var err error
	if c.store, err = c.nodeStore(ctx); err != nil {
		return err
	}
	if !keep {
		defer func() { _ = c.remove(context.WithoutCancel(ctx)) }()
	}
	if err := errors.Join(c.remove(ctx), os.MkdirAll(c.State, 0o755)); err != nil {
		return err
	}
	if err := errors.Join(c.furnish(ctx), c.ownImages(ctx)); err != nil {
		return err
	}
	if err := all(ctx, c.PlanesUp(), false); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	own, err := os.Executable()
	if err != nil {
		return err
	}
	args := append(c.Enter(), own, "-engine="+c.Engine, "-image="+c.Image, "-state="+c.State, planesPart)
	return errors.Join(ctx.Err(), execute(ctx, kind.Command{Args: args}, ""))
}

// ownImages writes the images of fairlead and of the test server, which every node imports.
func (c cluster) ownImages(ctx context.Context) error {
	root, err := lab.Checkout()
	if err != nil {
		return err
	}
	bin := filepath.Join(c.State, "bin")
	fairlead, err := lab.BuildShipped(ctx, bin)
	if err != nil {
		return err
	}
	hello := filepath.Join(bin, "hello")
	build := kind.Command{Env: []string{"CGO_ENABLED=0"}, Args: []string{"go", "build", "-trimpath", "-ldflags=-s -w", "-o", hello, "./cmd/hello"}}
	if err := execute(ctx, build, filepath.Join(root, "e2e")); err != nil {
		return err
	}
	archive := func(name string) string { return filepath.Join(c.images(), "all", name+".tar") }
	return errors.Join(lab.WriteImage(archive("fairlead"), lab.FairleadImage, fairlead, "fairlead", fairlead+"-ccm"),
		lab.WriteImage(archive("hello"), lab.HelloImage, hello, "hello"))
}

// planes is a cluster of control planes, on whose LAN this program runs.
type planes struct {
	cluster
	programs map[string]string
	root     string // of the checkout
	began    time.Time
}

// planes does what docs/control-plane.md says under kubeadm, and what may happen after it.
func (c cluster) planes(ctx context.Context) error {
	p := planes{cluster: c, began: time.Now()}
	var err error
	if p.programs, err = lab.NodePrograms(ctx, lab.Options{}); err != nil {
		return err
	}
	if p.root, err = lab.Checkout(); err != nil {
		return err
	}
	for _, do := range []func(context.Context) error{p.admit, p.start, p.install, p.losePower, p.follow} {
		if err := do(ctx); err != nil {
			p.collect(context.WithoutCancel(ctx))
			return err
		}
	}
	p.say("ok")
	return nil
}

func (p planes) say(format string, args ...any) {
	fmt.Printf("kubeadm: %4.0f s  %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
}

// collect writes down what there is to know after a failure.
func (p planes) collect(ctx context.Context) {
	const script = `crictl ps -a; journalctl --no-pager -u kubelet -n 60; tail -n 60 /var/log/pods/kube-system_fairlead-*/*/*.log; nft list ruleset`
	for _, n := range kind.Planes() {
		text, err := command(ctx, kind.Command{Args: []string{filepath.Join(p.State, "bin", "podman"), "exec", n.Name, "sh", "-c", script}}).CombinedOutput()
		path := filepath.Join(p.State, "logs", n.Name+".txt")
		if err := errors.Join(err, write(path, string(text), 0o644)); err == nil {
			fmt.Println("see", path)
		}
	}
}

// admit puts key and manifest in place on every node.
func (p planes) admit(ctx context.Context) error {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	manifest, err := out(ctx, kind.Command{Args: []string{filepath.Join(p.State, "bin", "fairlead"), "control-plane", "manifest",
		"--address=" + kind.APIAddress, "--members=" + kind.Members(), "--ca-file=/etc/kubernetes/pki/ca.crt",
		"--kubeconfig=" + kind.ClusterConfig, "--image=" + lab.FairleadImage}})
	if err != nil {
		return err
	}
	for _, n := range kind.Planes() {
		if err := all(ctx, p.Admit(n.Name, base64.StdEncoding.EncodeToString(key)+"\n", string(manifest)), false); err != nil {
			return err
		}
	}
	p.say("key, manifest and images are on %d nodes; no API server runs", len(kind.Planes()))
	return nil
}

// start runs kubeadm on every node.
func (p planes) start(ctx context.Context) error {
	version, err := version(ctx, p.programs)
	if err != nil {
		return err
	}
	first := kind.Planes()[0]
	printed, err := out(ctx, p.Init(version))
	fmt.Printf("%s", printed)
	if err != nil {
		return err
	}
	if err := p.answers(ctx, kind.APIAddress); err != nil {
		return err
	}
	p.say("kubeadm init is done, and %s answers /livez", kind.APIAddress)
	join, err := kind.ReadJoin(string(printed))
	if err != nil {
		return err
	}
	for _, n := range kind.Planes()[1:] {
		if err := execute(ctx, p.Join(n.Name, join), ""); err != nil {
			return err
		}
		if err := p.answers(ctx, n.IPv4); err != nil {
			return err
		}
		p.say("%s has joined", n.Name)
	}
	owner, err := p.owner(ctx)
	if err == nil && owner != first.Name {
		err = fmt.Errorf("%s moved to %s while others joined", kind.APIAddress, owner)
	}
	return err
}

// answers waits until the API server at ip lives.
func (p planes) answers(ctx context.Context, ip string) error {
	asker := livez.New(netip.AddrPortFrom(netip.MustParseAddr(ip), 6443), "")
	return lab.Until(ctx, patience, "the kube-apiserver at "+ip, func(ctx context.Context) error {
		answer, err := asker.Ask(ctx)
		if err == nil && answer != controlplane.Good {
			err = errors.New("it does not live")
		}
		return err
	})
}

// owner is the control plane that the address is at, as ARP says.
func (p planes) owner(ctx context.Context) (string, error) {
	if err := execute(ctx, kind.Command{Args: []string{"ip", "neigh", "flush", "to", kind.APIAddress}}, ""); err != nil {
		return "", err
	}
	if err := p.answers(ctx, kind.APIAddress); err != nil {
		return "", err
	}
	text, err := out(ctx, kind.Command{Args: []string{"ip", "neigh", "show", "to", kind.APIAddress}})
	if err != nil {
		return "", err
	}
	return kind.PlaneAt(string(text))
}

// kubectl runs kubectl by the API server's address.
func (p planes) kubectl(ctx context.Context, args ...string) ([]byte, error) {
	return out(ctx, p.admin("kubectl", args...))
}

func (p planes) admin(program string, args ...string) kind.Command {
	var env []string
	for _, what := range []string{"CACHE", "CONFIG", "DATA"} {
		env = append(env, "HELM_"+what+"_HOME="+filepath.Join(p.State, "helm"))
	}
	return kind.Command{Env: append(env, "KUBECONFIG="+p.files.Kubeconfig, "NO_PROXY=198.18.0.0/15"), Args: append([]string{p.programs[program]}, args...)}
}

// install gives the pods a network, and installs fairlead with its chart: the agents reach the
// API server by its address too.
func (p planes) install(ctx context.Context) error {
	config, err := out(ctx, p.AdminConfig())
	if err != nil {
		return err
	}
	if server := "server: https://" + kind.APIAddress + ":6443"; !bytes.Contains(config, []byte(server)) {
		return fmt.Errorf("kubeadm's kubeconfig has no %q", server)
	}
	if err := os.WriteFile(p.files.Kubeconfig, config, 0o600); err != nil {
		return err
	}
	nodes, err := p.kubectl(ctx, "get", "nodes", "-o", "json")
	if err != nil {
		return err
	}
	ranges, err := kind.ReadPodRanges(nodes)
	if err != nil {
		return err
	}
	list := append(p.Network(ranges, lab.CNIConfig),
		p.admin("kubectl", "taint", "nodes", "--all", "node-role.kubernetes.io/control-plane-"),
		p.admin("kubectl", "label", "nodes", "--all", "node.kubernetes.io/exclude-from-external-load-balancers-"),
		p.admin("helm", "install", "fairlead", filepath.Join(p.root, "charts", "fairlead"), "--namespace", lab.FairleadNamespace, "--create-namespace",
			"--set", "image.tag=dev", "--set", "api.host="+kind.APIAddress),
		p.admin("kubectl", "wait", "--for=condition=Ready", "nodes", "--all", "--timeout=5m"),
		p.admin("kubectl", "--namespace", lab.FairleadNamespace, "rollout", "status", "daemonset/fairlead-agent", "deployment/fairlead-controller", "--timeout=5m"),
		p.admin("kubectl", "apply", "-f", filepath.Join(p.root, "examples", "pool.yaml"), "-f", filepath.Join(p.root, "examples", "web.yaml")),
		p.admin("kubectl", "wait", "--for=condition=Available", "deployment/web", "--timeout=5m"),
		p.admin("kubectl", "wait", "--for=jsonpath={.status.loadBalancer.ingress[0].ip}", "service/web", "--timeout=5m"),
		p.admin("kubectl", "get", "nodes,services,pods", "--all-namespaces", "-o", "wide"))
	if err := all(ctx, list, false); err != nil {
		return err
	}
	ip, err := p.kubectl(ctx, "get", "service", "web", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
	if err != nil {
		return err
	}
	p.say("fairlead is installed with api.host=%s, and a Service has %s", kind.APIAddress, ip)
	return p.web(ctx, string(ip))
}

// web waits until the example's Service answers.
func (p planes) web(ctx context.Context, ip string) error {
	client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}
	return lab.Until(ctx, patience, "http://"+ip, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ip, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			return errors.Join(err, errors.New(resp.Status))
		}
		return nil
	})
}

// losePower cuts the power of the node that has the address, and gives it back.
func (p planes) losePower(ctx context.Context) error {
	first, err := p.owner(ctx)
	if err != nil {
		return err
	}
	stop := p.load(ctx)
	if err := execute(ctx, p.PowerOff(first), ""); err != nil {
		return err
	}
	second := ""
	err = lab.Until(ctx, patience, "another control plane", func(ctx context.Context) error {
		second, err = p.owner(ctx)
		if err == nil && second == first {
			err = errors.New("still " + first)
		}
		return err
	})
	good, gap := stop()
	if err != nil {
		return err
	}
	p.say("%s lost power: %s answers after %d ms, %d good answers", first, second, gap.Milliseconds(), good)
	if gap > mostSilence {
		return fmt.Errorf("no answer for %s", gap)
	}
	if err := all(ctx, []kind.Command{p.admin("kubectl", "get", "nodes"), p.PowerOn(first)}, false); err != nil {
		return err
	}
	at := slices.IndexFunc(kind.Planes(), func(n kind.Found) bool { return n.Name == first })
	if err := p.answers(ctx, kind.Planes()[at].IPv4); err != nil {
		return err
	}
	p.say("%s has power again, and its kube-apiserver lives", first)
	last, err := p.owner(ctx)
	if err == nil && last != second {
		err = fmt.Errorf("%s moved to %s when %s came back", kind.APIAddress, last, first)
	}
	return err
}

// follow gives the programs credentials, and waits until they have the members from the cluster.
func (p planes) follow(ctx context.Context) error {
	const name = "fairlead-control-plane"
	list := append(p.Credentials(), p.admin("kubectl", "create", "clusterrole", name, "--verb=list,watch", "--resource=nodes"),
		p.admin("kubectl", "create", "clusterrolebinding", name, "--clusterrole="+name, "--user="+name))
	if err := all(ctx, list, false); err != nil {
		return err
	}
	for _, n := range kind.Planes() {
		err := lab.Until(ctx, patience, "the members that "+n.Name+" keeps", func(ctx context.Context) error {
			text, err := out(ctx, p.KeptMembers(n.Name))
			if kept := strings.Join(strings.Fields(string(text)), ","); err == nil && kept != kind.Members() {
				err = errors.New(kept)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	p.say("every node has the members from the cluster")
	return nil
}

// load asks at the API server's address every 50 ms, each time by a new connection, and does
// not wait for the answer before. It returns how many answers were good, and the longest time
// without one.
func (p planes) load(ctx context.Context) (stop func() (good int, gap time.Duration)) {
	asker := livez.New(netip.AddrPortFrom(netip.MustParseAddr(kind.APIAddress), 6443), "")
	ctx, cancel := context.WithCancel(ctx)
	var (
		mu    sync.Mutex
		times = []time.Time{time.Now()}
		wg    sync.WaitGroup
	)
	ask := func() {
		if answer, err := asker.Ask(ctx); err == nil && answer == controlplane.Good {
			mu.Lock()
			defer mu.Unlock()
			times = append(times, time.Now())
		}
	}
	wg.Go(func() {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			wg.Go(ask)
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
		}
	})
	return func() (int, time.Duration) {
		cancel()
		wg.Wait()
		return len(times) - 1, longest(append(times, time.Now()))
	}
}

// longest is the longest time between two of the times, which are in their order.
func longest(times []time.Time) (gap time.Duration) {
	for i := range times[1:] {
		gap = max(gap, times[i+1].Sub(times[i]))
	}
	return gap
}
