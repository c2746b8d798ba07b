package lab

import (
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestUnknownCNIIsRefusedWithThoseThatThereAre(t *testing.T) {
	for name, known := range map[string]bool{"": true, "flannel": true, "calico": true, "weave": false} {
		err := newLab(Options{CNI: name}).checkCNI()
		if known != (err == nil) {
			t.Errorf("CNI %q: %v", name, err)
		}
		if err != nil && !strings.Contains(err.Error(), strings.Join(CNIs(), ", ")) {
			t.Errorf("CNI %q: %v does not name the others", name, err)
		}
	}
}

// What a plugin refuses would make no pod run, and say so only in a kubelet's log.
func TestConfigurationsOfCNIs(t *testing.T) {
	n := nodes(2)[1]
	for name, text := range map[string]string{
		"lab": cniConfig(n), "flannel": flannelConfig(n), "kube-router": kubeRouterConfig(), "calico": calicoConfig(n, "/admin"),
	} {
		var config struct {
			CNIVersion, Name string
			Plugins          []struct {
				Type string
				IPAM struct {
					Type   string
					Ranges [][]struct{ Subnet string }
				}
			}
		}
		if err := json.Unmarshal([]byte(text), &config); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if config.CNIVersion == "" || config.Name == "" || len(config.Plugins) != 2 || config.Plugins[0].IPAM.Type == "" {
			t.Errorf("%s: %+v", name, config)
		}
		for _, set := range config.Plugins[0].IPAM.Ranges {
			// host-local refuses a subnet with bits of a host.
			if p, err := netip.ParsePrefix(set[0].Subnet); err != nil || p != p.Masked() {
				t.Errorf("%s: range %s, %v", name, set[0].Subnet, err)
			}
		}
	}
}

// The MTU that flanneld chooses takes the place of a number that is nowhere else.
func TestFlannelsMTUIsReplacedOnce(t *testing.T) {
	for _, n := range nodes(9) {
		if c := strings.Count(flannelConfig(n), "65000"); c != 1 {
			t.Errorf("%s: 65000 is in it %d times", n.name, c)
		}
	}
}

// Calico's pods are outside of all podCIDRs, and inside of what is set aside for pods.
func TestCalicosPoolsAreOutsideOfThePodCIDRs(t *testing.T) {
	all := []netip.Prefix{netip.MustParsePrefix(podsIPv4), netip.MustParsePrefix(podsIPv6)}
	for i, text := range []string{calicoIPv4, calicoIPv6} {
		pool := netip.MustParsePrefix(text)
		if !all[i].Contains(pool.Addr()) || pool.Bits() < all[i].Bits() {
			t.Errorf("%s is not in %s", pool, all[i])
		}
		for _, n := range nodes(9) {
			if p := netip.MustParsePrefix([]string{n.pods().v4, n.pods().v6}[i]); p.Overlaps(pool) {
				t.Errorf("%s of %s overlaps %s", p, n.name, pool)
			}
		}
	}
}

func TestBlackholes(t *testing.T) {
	got := blackholes("blackhole 198.18.192.64/26 proto 80 \nblackhole fd98:18:80:c000::40/122 dev lo proto 80 metric 1024 pref medium\n\n")
	if want := []string{"198.18.192.64/26", "fd98:18:80:c000::40/122"}; !slices.Equal(got, want) {
		t.Errorf("blackholes to %v, want %v", got, want)
	}
}

// Every change is tried with each CNI that the lab has.
func TestEachCNIHasItsJob(t *testing.T) {
	data, err := os.ReadFile("../../.github/workflows/ci.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"matrix: {cni: [" + strings.Join(CNIs(), ", ") + "]}\n",
		" make demo CNI=${{ matrix.cni }}\n",
		" make e2e CNI=${{ matrix.cni }} WHAT=any-cni\n",
	} {
		if !strings.Contains(string(data), want) {
			t.Errorf("ci.yaml has no %q", want)
		}
	}
}
