package stories

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/internal/test/routertest"
)

// home is a pool that follows the prefix of the LAN's router, and a Service that asks for
// it. The lab's prefixes are unique local ones.
const home = `apiVersion: fairlead.io/v1alpha1
kind: AddressPool
metadata: {name: home}
spec: {autoAssign: false, fromPrefix: {interface: eth0, host: "::10-::1f", scope: UniqueLocal, grace: 20s}}
---
apiVersion: v1
kind: Service
metadata: {name: at-home, annotations: {fairlead.io/pool: home}}
spec: {type: LoadBalancer, ipFamilies: [IPv6], selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`

// radvd is a program on the lab's router that announces prefixes.
type radvd struct {
	file    string
	clients []string // link-local addresses of the hosts that it announces to: the machine itself is on the LAN too
	command *exec.Cmd
}

// announce has the router announce prefixes; one with a "-" before it is one that it lets
// go.
func (a *radvd) announce(t *testing.T, prefixes ...string) {
	t.Helper()
	if err := os.WriteFile(a.file, []byte(routertest.RadvdConfig(a.clients, prefixes...)), 0o600); err != nil {
		t.Fatal(err)
	}
	if a.command != nil {
		if err := a.command.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
}

// announces starts radvd on the router of the LAN.
func announces(t *testing.T, l *lab.Lab, prefixes ...string) *radvd {
	t.Helper()
	a := &radvd{file: filepath.Join(t.TempDir(), "radvd.conf")}
	for _, host := range append(l.Nodes(), lab.Client) {
		takesPrefixes(t, l, host, host != lab.Client)
		out, err := l.Exec(t.Context(), host, "ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link")
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Fields(string(out))
		a.clients = append(a.clients, strings.TrimSuffix(words[slices.Index(words, "inet6")+1], "/64"))
	}
	a.announce(t, prefixes...)
	a.command = onRouter(t, l, "/usr/sbin/radvd", "--nodaemon", "--logmethod", "stderr", "--config", a.file, "--pidfile", a.file+".pid")
	return a
}

// onRouter runs a program on the router of the LAN until the story is over.
func onRouter(t *testing.T, l *lab.Lab, args ...string) *exec.Cmd {
	t.Helper()
	cmd, err := l.Command(context.Background(), lab.Router, args...)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	undo(t, func(context.Context) error {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil
	})
	return cmd
}

// takesPrefixes has a host give itself addresses of the prefixes that it hears of, until
// the story is over.
func takesPrefixes(t *testing.T, l *lab.Lab, host string, forwards bool) {
	t.Helper()
	setting, before := "net.ipv6.conf.eth0.accept_ra=1", "net.ipv6.conf.eth0.accept_ra=0"
	if forwards {
		setting = "net.ipv6.conf.eth0.accept_ra=2"
	}
	if _, err := l.Exec(t.Context(), host, "sysctl", "-qw", setting); err != nil {
		t.Fatal(err)
	}
	undo(t, func(ctx context.Context) error {
		if _, err := l.Exec(ctx, host, "sysctl", "-qw", before); err != nil {
			return err
		}
		_, err := l.Exec(ctx, host, "ip", "-6", "address", "flush", "dev", "eth0", "dynamic", "scope", "global", "to", "fd98:100::/24")
		return err
	})
}

// ingress waits until the status of a Service names these addresses.
func ingress(t *testing.T, service string, want ...string) {
	t.Helper()
	eventually(t, settled, fmt.Sprintf("%s to have %v", service, want), func(ctx context.Context) error {
		out, err := shared.Kubectl(ctx, "get", "service", service, "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")
		if err == nil && !slices.Equal(strings.Fields(string(out)), want) {
			err = fmt.Errorf("it has %q", out)
		}
		return err
	})
}

// A provider gives the site another prefix. Services have an address of it beside the one
// that they had, which clients reach too until the grace time is over.
// "make e2e WHAT=dynamic" runs it.
func TestAddressesFollowThePrefixOfTheNetwork(t *testing.T) {
	l := cluster(t)
	if os.Getenv("FAIRLEAD_E2E_ALL") == "" {
		t.Skip("make e2e WHAT=dynamic runs it")
	}
	web(t)
	const first, second = "fd98:101::10", "fd98:102::10"
	router := announces(t, l, "fd98:101::/64")
	apply(t, home)
	ingress(t, "at-home", first)
	answersTo(t, lab.Client, demo.URL(first, 80), demo.Replicas)
	eventually(t, settled, "the pool to say who sees its prefix", func(ctx context.Context) error {
		return saysOf(ctx, "addresspool/home", "Prefix", "True", "PrefixAgreed", fmt.Sprintf("%d of %d nodes see fd98:101::/64", len(l.Nodes()), len(l.Nodes())))
	})

	router.announce(t, "-fd98:101::/64", "fd98:102::/64")
	ingress(t, "at-home", second, first)
	for _, vip := range []string{second, first} {
		answersTo(t, lab.Client, demo.URL(vip, 80), demo.Replicas)
	}
	eventually(t, settled, "an Event on the pool", func(ctx context.Context) error {
		out, err := l.Kubectl(ctx, "get", "events", "-A", "--field-selector=involvedObject.kind=AddressPool,reason=PrefixChanged", "-o", "jsonpath={.items[*].message}")
		if err == nil && !strings.Contains(string(out), "fd98:102::/64 from now on, instead of fd98:101::/64") {
			err = fmt.Errorf("the Events say %q", out)
		}
		return err
	})

	ingress(t, "at-home", second)
	eventually(t, settled, "the former address to be gone", func(ctx context.Context) error {
		if _, err := get(ctx, l, lab.Client, demo.URL(first, 80)); err == nil {
			return fmt.Errorf("%s still answers", first)
		}
		return nil
	})
	answersTo(t, lab.Client, demo.URL(second, 80), demo.Replicas)
}

// leased is a pool whose addresses the LAN's DHCP server leases, and a Service that asks
// for it. The pool that a second one asks for trusts another server alone.
const leased = `apiVersion: fairlead.io/v1alpha1
kind: AddressPool
metadata: {name: leased}
spec: {autoAssign: false, fromDHCP: {interface: eth0, families: [IPv4, IPv6]}}
---
apiVersion: fairlead.io/v1alpha1
kind: AddressPool
metadata: {name: distrustful}
spec: {autoAssign: false, fromDHCP: {interface: eth0, servers: [198.18.0.99]}}
---
apiVersion: v1
kind: Service
metadata: {name: lessee, annotations: {fairlead.io/pool: leased}}
spec: {type: LoadBalancer, ipFamilyPolicy: RequireDualStack, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: careful, annotations: {fairlead.io/pool: distrustful}}
spec: {type: LoadBalancer, ipFamilyPolicy: SingleStack, ipFamilies: [IPv4], selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`

// given returns what the DHCP server that keeps its leases in file has leased.
func given(t *testing.T, file string) []routertest.Lease {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return routertest.ReadLeases(string(data))
}

// keepers returns the nodes that say that they keep the lease of vip: those without power
// too.
func keepers(ctx context.Context, l *lab.Lab, vip string) ([]string, error) {
	out, err := l.Kubectl(ctx, "get", "nodestates", "-o", `jsonpath={range .items[*]}{.metadata.name}{" "}{.status.leases[*].address}{"\n"}{end}`)
	var nodes []string
	for line := range strings.Lines(string(out)) {
		if words := strings.Fields(line); len(words) > 0 && slices.Contains(words[1:], vip) {
			nodes = append(nodes, words[0])
		}
	}
	return nodes, err
}

// keeper waits until one node keeps the lease of vip, and returns it.
func keeper(t *testing.T, l *lab.Lab, vip string) (node string) {
	t.Helper()
	eventually(t, settled, "one node to keep "+vip, func(ctx context.Context) error {
		at, err := keepers(ctx, l, vip)
		if err != nil || len(at) != 1 {
			return errors.Join(err, fmt.Errorf("the nodes that keep it are %v", at))
		}
		node = at[0]
		return nil
	})
	return node
}

// A site without free addresses has a DHCP server. A Service has addresses of it, keeps them
// when the node that announces them and the one that leased them have no power any more, and
// gives them back at its end. Hostile answers are told.
// "make e2e WHAT=dynamic" runs it.
func TestAddressesAreLeasedFromTheNetwork(t *testing.T) {
	l := cluster(t)
	if os.Getenv("FAIRLEAD_E2E_ALL") == "" {
		t.Skip("make e2e WHAT=dynamic runs it")
	}
	web(t)
	file := filepath.Join(t.TempDir(), "leases")
	apply(t, leased)
	eventually(t, settled, "the Service to say that nobody leases", func(ctx context.Context) error {
		return saysOf(ctx, "service/lessee", "fairlead.io/AddressAssigned", "False", "NoLease", "no DHCP server answers on eth0")
	})
	onRouter(t, l, routertest.DnsmasqArgs(file, "198.18.0.120,198.18.0.129,2m", "fd98:18::120,fd98:18::129,64,2m")...)
	var vips []string
	eventually(t, settled, "the Service to have an address of each family", func(ctx context.Context) error {
		out, err := l.Kubectl(ctx, "get", "service", "lessee", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")
		if vips = strings.Fields(string(out)); err == nil && len(vips) != 2 {
			err = fmt.Errorf("it has %q", out)
		}
		return err
	})
	for _, vip := range vips {
		answersTo(t, lab.Client, demo.URL(vip, 80), demo.Replicas)
	}
	eventually(t, settled, "the other Service to say whom its pool trusts", func(ctx context.Context) error {
		return saysOf(ctx, "service/careful", "fairlead.io/AddressAssigned", "False", "NoLease", "the server is not one of the servers of pool distrustful")
	})

	// The node that keeps a lease and the one that announces its address may be two.
	lose := []string{keeper(t, l, vips[0])}
	if node := announcer(t, vips[0]); node != lose[0] {
		lose = append(lose, node)
	}
	for _, node := range lose {
		powerOnAtTheEnd(t, node)
		powerOff(t, node)
		for _, vip := range vips {
			eventually(t, settled, vip+" to answer without "+node, func(ctx context.Context) error {
				r, err := l.Probe(ctx, lab.Client, demo.URL(vip, 80), "-n=60", "-c=10", "-timeout=1s")
				if err == nil && r.Failures > 0 {
					err = fmt.Errorf("%d of %d requests failed %v", r.Failures, r.Requests, r.Reasons)
				}
				return err
			})
		}
		eventually(t, settled, "another node to have renewed the leases of "+node, func(ctx context.Context) error {
			for _, vip := range vips {
				at, err := keepers(ctx, l, vip)
				if err != nil || !slices.ContainsFunc(at, func(n string) bool { return n != node }) {
					return errors.Join(err, fmt.Errorf("the nodes that keep %s are %v", vip, at))
				}
			}
			return nil
		})
		if err := l.StartNode(t.Context(), node); err != nil {
			t.Fatal(err)
		}
	}
	ingress(t, "lessee", vips...)

	if _, err := l.Kubectl(t.Context(), "delete", "service", "lessee"); err != nil {
		t.Fatal(err)
	}
	eventually(t, settled, "the leases to be released", func(context.Context) error {
		if left := given(t, file); len(left) > 0 {
			return fmt.Errorf("the server has leased %v", left)
		}
		return nil
	})
}
