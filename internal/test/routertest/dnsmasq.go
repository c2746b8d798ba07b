package routertest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// Leaser is dnsmasq, which leases addresses on the link eth0 of a namespace.
type Leaser struct {
	file    string
	process *os.Process
}

// DnsmasqArgs are the arguments with which dnsmasq leases addresses on the link eth0, and
// does nothing else. Each of ranges is one as --dhcp-range has it. It keeps the leases in
// file. Clients with an address that it does not know are told so.
func DnsmasqArgs(file string, ranges ...string) []string {
	args := []string{
		"/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-", "--log-dhcp", "--user=root", "--pid-file=",
		"--port=0", "--interface=eth0", "--bind-dynamic", "--dhcp-authoritative", "--no-ping", "--dhcp-leasefile=" + file,
	}
	for _, r := range ranges {
		args = append(args, "--dhcp-range="+r)
	}
	return args
}

// StartDnsmasq starts dnsmasq in ns with ranges.
func StartDnsmasq(t testing.TB, ns nstest.Space, ranges ...string) *Leaser {
	t.Helper()
	l := &Leaser{file: filepath.Join(t.TempDir(), "leases")}
	l.process = program(t, ns, DnsmasqArgs(l.file, ranges...)...)
	return l
}

// Stop ends the server. What it has leased is forgotten.
func (l *Leaser) Stop(t testing.TB) {
	t.Helper()
	if err := l.process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = l.process.Wait()
}

// Lease is one that the server has given.
type Lease struct{ Addr, Host, Client string }

// Leases returns what the server has leased, in its own order.
func (l *Leaser) Leases(t testing.TB) []Lease {
	t.Helper()
	data, err := os.ReadFile(l.file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return ReadLeases(string(data))
}

// ReadLeases reads the file in which dnsmasq keeps its leases.
func ReadLeases(text string) (out []Lease) {
	for line := range strings.Lines(text) {
		if w := strings.Fields(line); len(w) == 5 { // not its own DUID
			out = append(out, Lease{Addr: w[2], Host: w[3], Client: w[4]})
		}
	}
	return out
}
