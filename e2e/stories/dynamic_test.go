package stories

import (
	"context"
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
	var b strings.Builder
	b.WriteString("interface eth0 {\n AdvSendAdvert on;\n AdvDefaultLifetime 0;\n MinRtrAdvInterval 3;\n MaxRtrAdvInterval 4;\n clients {\n")
	for _, c := range a.clients {
		b.WriteString("  " + c + ";\n")
	}
	b.WriteString(" };\n")
	for _, text := range prefixes {
		prefix, old := strings.CutPrefix(text, "-")
		preferred := 1800
		if old {
			preferred = 0
		}
		fmt.Fprintf(&b, " prefix %s { AdvValidLifetime 3600; AdvPreferredLifetime %d; };\n", prefix, preferred)
	}
	b.WriteString("};\n")
	if err := os.WriteFile(a.file, []byte(b.String()), 0o600); err != nil {
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
	cmd, err := l.Command(context.Background(), lab.Router, "/usr/sbin/radvd", "--nodaemon", "--logmethod", "stderr", "--config", a.file, "--pidfile", a.file+".pid")
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a.command = cmd
	undo(t, func(context.Context) error {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil
	})
	return a
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
