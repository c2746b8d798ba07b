package routertest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// Announcer is radvd, which announces IPv6 prefixes on the link eth0 of a namespace.
type Announcer struct {
	file    string
	process *os.Process
}

// StartRadvd starts radvd in ns. It announces each of prefixes, every few seconds; one with
// a "-" before it is one that it lets go.
func StartRadvd(t testing.TB, ns nstest.Space, prefixes ...string) *Announcer {
	t.Helper()
	dir := t.TempDir()
	a := &Announcer{file: filepath.Join(dir, "radvd.conf")}
	a.write(t, prefixes)
	ns.Run(t, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
	a.process = program(t, ns, "/usr/sbin/radvd", "--nodaemon", "--logmethod", "stderr", "--config", a.file, "--pidfile", filepath.Join(dir, "radvd.pid"))
	return a
}

// Announce makes the router announce these prefixes instead.
func (a *Announcer) Announce(t testing.TB, prefixes ...string) {
	t.Helper()
	a.write(t, prefixes)
	if err := a.process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

func (a *Announcer) write(t testing.TB, prefixes []string) {
	t.Helper()
	write(t, a.file, RadvdConfig(nil, prefixes...))
}

// RadvdConfig is the configuration with which radvd announces prefixes as StartRadvd says:
// to clients alone if there are any, by their link-local addresses, and not as a router that
// hosts send to.
func RadvdConfig(clients []string, prefixes ...string) string {
	var b strings.Builder
	b.WriteString("interface eth0 {\n AdvSendAdvert on;\n MinRtrAdvInterval 3;\n MaxRtrAdvInterval 4;\n")
	if len(clients) > 0 {
		fmt.Fprintf(&b, " AdvDefaultLifetime 0;\n clients { %s; };\n", strings.Join(clients, "; "))
	}
	for _, text := range prefixes {
		prefix, old := strings.CutPrefix(text, "-")
		preferred := 3600
		if old {
			preferred = 0
		}
		fmt.Fprintf(&b, " prefix %s { AdvAutonomous on; AdvValidLifetime 7200; AdvPreferredLifetime %d; };\n", prefix, preferred)
	}
	return b.String() + "};\n"
}
