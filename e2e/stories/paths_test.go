package stories

import (
	"net"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/probe"
)

// A Service of type LoadBalancer gets an address of each family, one node
// announces each, and every way to them reaches all its pods without a failure.
func TestEveryPathReachesEveryPod(t *testing.T) {
	l := cluster(t)
	s := web(t)
	for _, p := range demo.Paths(l, s) {
		t.Run(p.Name, func(t *testing.T) {
			report, err := p.Probe(t.Context(), l)
			if err != nil {
				t.Fatal(err)
			}
			if err := (demo.Row{Path: p, Report: report}).Objection(); err != nil {
				t.Error(err)
			}
			t.Logf("p50 %.2f ms, p99 %.2f ms, clients seen: %v", report.P50, report.P99, report.Clients)
		})
	}
	for _, ip := range s.ExternalIPs {
		t.Logf("%s is announced by %s", ip, announcer(t, ip))
	}
}

// announcer is the node that the LAN client sees an address at.
func announcer(t *testing.T, ip string) string {
	t.Helper()
	a, err := demo.FindAnnouncer(t.Context(), cluster(t), ip)
	if err != nil {
		t.Fatal(err)
	}
	return a.Node
}

// six returns three servers and their Service, which has one address, of IPv6, under
// another name.
func six(t *testing.T, name string) string {
	t.Helper()
	return strings.ReplaceAll(manifests(t, "six.yaml"), "six", name)
}

// A Service that wants IPv6 alone has one address, of IPv6, and every way to it
// works; nothing of it is there by IPv4.
func TestIPv6OnlyServiceIsReachedOnEveryPath(t *testing.T) {
	l := cluster(t)
	electable(t)
	applyFile(t, "six.yaml")
	from := pods(t, "default", "app=six", 3)[0]
	vip := externalIP(t, "six")
	forgotten(t, vip)
	all := kubectl(t, "get", "service", "six", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")
	if strings.Contains(vip, ".") || all != vip {
		t.Fatalf("the addresses are %q", all)
	}
	clusterIP := kubectl(t, "get", "service", "six", "-o", "jsonpath={.spec.clusterIP}")
	port := kubectl(t, "get", "service", "six", "-o", "jsonpath={.spec.ports[0].nodePort}")
	for _, host := range []string{lab.Client, lab.Ext} {
		answersTo(t, host, "http://["+vip+"]/", 3)
		wantAll(t, hostAsks(t, host, "http://["+vip+"]/", "-n=60"), 3)
		for _, node := range l.Nodes() {
			answersTo(t, host, "http://"+net.JoinHostPort(l.NodeAddress6(node), port)+"/", 3)
			wantAll(t, hostAsks(t, host, "http://"+net.JoinHostPort(l.NodeAddress6(node), port)+"/", "-n=60"), 3)
			r := hostAsks(t, host, "http://"+net.JoinHostPort(l.NodeAddress(node), port)+"/", "-n=4", "-timeout=1s")
			if r.Failures != r.Requests {
				t.Errorf("%s answers on its IPv4 node port: %+v", node, r)
			}
		}
	}
	wantAll(t, podAsks(t, from, "http://["+clusterIP+"]/", "-n=60"), 3)
	wantAll(t, podAsks(t, from, "http://["+vip+"]/", "-n=60"), 3)
	wantAll(t, podAsks(t, from, name("six")+"/", "-n=60"), 3)
	t.Logf("%s is announced by %s", vip, announcer(t, vip))
}

// UDP has the same ways in, by both families.
func TestUDPServiceIsReachedOnEveryPath(t *testing.T) {
	l := cluster(t)
	electable(t)
	applyFile(t, "datagrams.yaml")
	from := pods(t, "default", "app=datagrams", 3)[0]
	externalIP(t, "datagrams")
	vips := strings.Fields(kubectl(t, "get", "service", "datagrams", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}"))
	clusterIPs := strings.Fields(kubectl(t, "get", "service", "datagrams", "-o", "jsonpath={.spec.clusterIPs[0]} {.spec.clusterIPs[1]}"))
	port := kubectl(t, "get", "service", "datagrams", "-o", "jsonpath={.spec.ports[0].nodePort}")
	if len(vips) != 2 || len(clusterIPs) != 2 {
		t.Fatalf("addresses %v and %v, want two of each", vips, clusterIPs)
	}
	forgotten(t, vips...)
	for _, host := range []string{lab.Client, lab.Ext} {
		for _, ip := range vips {
			answersTo(t, host, "udp://"+net.JoinHostPort(ip, "53"), 3)
			wantDatagrams(t, hostAsks(t, host, "udp://"+net.JoinHostPort(ip, "53"), "-n=60"))
		}
		for _, node := range l.Nodes() {
			for _, ip := range []string{l.NodeAddress(node), l.NodeAddress6(node)} {
				answersTo(t, host, "udp://"+net.JoinHostPort(ip, port), 3)
				wantDatagrams(t, hostAsks(t, host, "udp://"+net.JoinHostPort(ip, port), "-n=60"))
			}
		}
	}
	for _, ip := range clusterIPs {
		wantDatagrams(t, podAsks(t, from, "udp://"+net.JoinHostPort(ip, "53"), "-n=60"))
	}
	for _, family := range []string{"4", "6"} {
		wantDatagrams(t, podAsks(t, from, "udp://datagrams.default.svc.cluster.local:53", "-n=60", "-family="+family))
	}
}

func wantDatagrams(t *testing.T, r probe.Report) {
	t.Helper()
	wantAll(t, r, 3)
	wantPort(t, r, "5353")
}
