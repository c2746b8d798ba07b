package labs

import (
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/lab"
)

// root is the checkout; without FAIRLEAD_E2E=1 the test is skipped.
func root(t *testing.T) string {
	t.Helper()
	if os.Getenv("FAIRLEAD_E2E") != "1" {
		t.Skip("FAIRLEAD_E2E is not 1")
	}
	must(t, removeStale(t.Context()))
	path, err := lab.Checkout()
	must(t, err)
	return path
}

// asks runs client.sh on a machine, which must have an answer within a minute and
// lose none of a hundred, and returns what it printed.
func (c *cluster) asks(client, url string) string {
	c.t.Helper()
	out, err := c.clientScript(client, url)
	must(c.t, err)
	return out
}

func (c *cluster) clientScript(client, url string) (string, error) {
	return c.hosts[client].run([]string{"URL=" + url, "PATIENCE=60", "LAB_ENV=/nowhere"}, c.root+"/labs/scripts/client.sh")
}

// answers is what client.sh counted, by pod.
var answers = regexp.MustCompile(`(?m)^ *\d+ (web-on-\S+)$`)

// wantAll checks that so many pods answered.
func wantAll(t *testing.T, client, out string, pods int) {
	t.Helper()
	if n := len(answers.FindAllString(out, -1)); n != pods {
		t.Errorf("%s was answered by %d pods, want %d: %s", client, n, pods, out)
	}
	t.Logf("%s: %s", client, strings.Join(strings.Fields(out), " "))
}

// survives lets a node lose its power while clients ask, and logs for how long after
// that connections of each of them failed. All must have an answer to each of a
// hundred requests again, from the pods that are left.
func (c *cluster) survives(node, url string, clients ...string) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	worst := map[string]chan time.Duration{}
	for _, name := range clients {
		ch := make(chan time.Duration, 1)
		worst[name] = ch
		h := c.hosts[name]
		go func() { ch <- lastFailure(ctx, h, vipOf(url)+":80") }()
	}
	c.hosts[node].unplug() // first, or its kernel would say goodbye
	c.hosts[node].powerOff()
	for _, name := range clients {
		wantAll(c.t, name, c.asksAgain(name, url), 2)
	}
	cancel()
	for _, name := range clients {
		c.t.Logf("%s lost its power: the last connection of %s that failed began %.1f s later", node, name, (<-worst[name]).Seconds())
	}
}

// asksAgain asks until no request fails, for a minute.
func (c *cluster) asksAgain(client, url string) string {
	c.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		out, err := c.clientScript(client, url)
		if err == nil {
			return out
		}
		if time.Now().After(deadline) {
			c.t.Fatal(err)
		}
	}
}

// lastFailure begins a connection every 50 ms until ctx ends, and returns when the
// last one began that failed, counted from its call.
func lastFailure(ctx context.Context, h *host, address string) time.Duration {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	began := time.Now()
	var last time.Duration
	for ctx.Err() == nil {
		at := time.Since(began)
		err := h.do(func() error {
			conn, err := net.DialTimeout("tcp4", address, 250*time.Millisecond)
			if err == nil {
				_ = conn.Close()
			}
			return err
		})
		if err != nil {
			last = at
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	return last
}

// vipOf is the address in a URL of client.sh.
func vipOf(url string) string {
	return strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/hostname")
}

// owner is the node whose link has the MAC that a machine on the LAN has found for an
// address.
func (c *cluster) owner(client, device, address string) string {
	c.t.Helper()
	out, err := c.hosts[client].run(nil, "ip", "neigh", "show", "to", address, "dev", device)
	must(c.t, err)
	fields := strings.Fields(out)
	for i, f := range fields {
		if f == "lladdr" {
			return c.withMAC(fields[i+1])
		}
	}
	c.t.Fatalf("%s knows nobody that has %s: %q", client, address, out)
	return ""
}

func (c *cluster) withMAC(mac string) string {
	c.t.Helper()
	for _, m := range c.nodes() {
		out, err := c.hosts[m.name].run(nil, "ip", "-o", "link")
		must(c.t, err)
		if strings.Contains(out, mac) {
			return m.name
		}
	}
	c.t.Fatalf("no node has %s", mac)
	return ""
}

// has waits until what a machine prints matches.
func (c *cluster) has(name, want string, command ...string) {
	c.t.Helper()
	pattern := regexp.MustCompile(want)
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		out, err := c.hosts[name].run(nil, command...)
		if err == nil && pattern.MatchString(out) {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			c.t.Fatalf("%s on %s: %v, want %s:\n%s", strings.Join(command, " "), name, err, want, out)
		}
	}
}

// sessions waits until a router has all sessions.
func (c *cluster) sessions(router string) {
	c.t.Helper()
	c.has(router, fmt.Sprintf(`(?s)("state":"Established".*){%d}`, len(c.nodes())), "vtysh", "-c", "show bgp ipv4 unicast summary json")
}
