package agent

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/proxies"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/sysctl"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
)

// The time of the condition is that of the last change between right and wrong.
func TestSysctlCondition(t *testing.T) {
	var s sysctls
	if got := s.condition(); got != nil {
		t.Errorf("before the first look: %+v", got)
	}
	start := time.Unix(1000, 0)
	step := func(after time.Duration, wrong []string, news bool, status metav1.ConditionStatus, since time.Duration) {
		t.Helper()
		if got := s.found(wrong, start.Add(after)); got != news {
			t.Errorf("after %s: news is %v", after, got)
		}
		if c := s.condition()[0]; c.Status != status || !c.LastTransitionTime.Time.Equal(start.Add(since)) {
			t.Errorf("after %s: %s since %s", after, c.Status, c.LastTransitionTime)
		}
	}
	step(0, nil, true, metav1.ConditionTrue, 0)
	step(time.Second, nil, false, metav1.ConditionTrue, 0)
	step(2*time.Second, []string{"a is 0"}, true, metav1.ConditionFalse, 2*time.Second)
	step(3*time.Second, []string{"a is 0", "b is 0"}, true, metav1.ConditionFalse, 2*time.Second)
	step(4*time.Second, nil, true, metav1.ConditionTrue, 4*time.Second)
}

// unwritable is a file that nobody may write, not even root, and whose value is not 1.
const unwritable = "/proc/sys/kernel/cap_last_cap"

// forwarding makes a setting of IPv4 forwarding in dir: a file with value, or unwritable.
func forwarding(t *testing.T, dir, value string) (file string) {
	t.Helper()
	file = sysctl.Dir(dir).File("net.ipv4.ip_forward")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	do := func() error { return os.WriteFile(file, []byte(value), 0o600) }
	if value == unwritable {
		do = func() error { return os.Symlink(unwritable, file) }
	}
	if err := do(); err != nil {
		t.Fatal(err)
	}
	return file
}

// still returns an agent that runs nothing, on a node where proxy forwards. No API server
// has answered it.
func still(proxy proxies.Name, sysctls string) *Agent {
	d := &diary{Fake: dataplanetest.NewFake()}
	a := assemble(&Config{Node: "a", SysctlDir: sysctls, Log: slog.New(slog.DiscardHandler), Dataplane: d, Clients: &kube.Clients{}}, nodeLinks{d})
	a.engine.proxy, a.cluster.store = proxy, &followed{}
	return a
}

// A node that has booted forwards nothing. Its agent has the kernel forward before it
// announces anything, although no API server answers.
func TestForwardsBeforeTheClusterIsListed(t *testing.T) {
	dir := t.TempDir()
	file := forwarding(t, dir, "0")
	space := nstest.New(t, "booted")
	space.Run(t, "ip", "addr", "add", "198.51.100.1/24", "dev", "lo")
	a := still(Fairlead, dir)
	space.Do(t, func() error { return a.prepare(t.Context()) })
	if got, err := os.ReadFile(file); string(got) != "1" {
		t.Errorf("ip_forward is %q, %v", got, err)
	}
}

// A node whose kernel does not forward, and whose agent may not change that, announces
// nothing by layer 2 or BGP, until the kernel forwards. It gives up what it announces when
// its kernel stops forwarding.
func TestNothingAnnouncedThatIsNotForwarded(t *testing.T) {
	dir := t.TempDir()
	forwarding(t, dir, unwritable)
	synctest.Test(t, func(t *testing.T) {
		a, d := lived(t)
		a.cfg.SysctlDir = dir
		a.links.mu.Lock()
		a.links.state.Addrs = []netip.Addr{netip.MustParseAddr("198.51.100.1")}
		a.links.mu.Unlock()
		look := func() string {
			if err := a.setSysctls(t.Context()); err != nil {
				t.Fatal(err)
			}
			return d.read(10 * time.Second)
		}
		look()
		d.do(t, a, twoVIPs("web", 10))
		if got := look(); !strings.Contains(got, "program ") || strings.Contains(got, "announce ") {
			t.Errorf("not forwarding: %s", got)
		}
		const want = "and must be 1: without it the node drops packets to pods, and announces no IPv4 address"
		if c := a.sysctls.condition()[0]; c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, want) {
			t.Errorf("condition %+v", c)
		}
		forwarding(t, dir, "1")
		if got := look(); strings.Count(got, "announce ") != 2 {
			t.Errorf("forwarding: %s", got)
		}
		forwarding(t, dir, unwritable)
		if got := look(); strings.Count(got, "withdraw ") != 2 || strings.Contains(got, "unprogram ") {
			t.Errorf("not forwarding any more: %s", got)
		}
	})
}

// A proxy that forwards instead may need no forwarding by the kernel.
func TestOtherProxySeesToForwarding(t *testing.T) {
	dir := t.TempDir()
	forwarding(t, dir, unwritable)
	for proxy, want := range map[proxies.Name][]snapshot.Family{Fairlead: {snapshot.IPv4}, proxies.Cilium: nil} {
		a := still(proxy, dir)
		a.links.state.Addrs = []netip.Addr{netip.MustParseAddr("198.51.100.1")}
		if err := a.setSysctls(t.Context()); err != nil || !slices.Equal(a.unforwarded(), want) {
			t.Errorf("%s: %v, %v", proxy, a.unforwarded(), err)
		}
	}
}
