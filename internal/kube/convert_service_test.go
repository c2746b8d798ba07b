package kube

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/internal/snapshot"
)

func ptr[T any](v T) *T { return &v }

// newSlice makes a slice of Service default/web with one port.
func newSlice(name, port string, number int32, eps ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "uid", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		Ports:      []discoveryv1.EndpointPort{{Name: &port, Port: &number, Protocol: ptr(corev1.ProtocolTCP)}},
		Endpoints:  eps,
	}
}

func at(addr string) discoveryv1.Endpoint { return discoveryv1.Endpoint{Addresses: []string{addr}} }

// text prints endpoints: the conditions as letters, in capitals where true.
func text(eps []snapshot.Endpoint) string {
	var out []string
	letter := func(b bool, l string) string {
		if b {
			return strings.ToUpper(l)
		}
		return l
	}
	for _, e := range eps {
		out = append(out, fmt.Sprintf("%s %s %s %s%s%s", e.PortName, e.Protocol, e.Addr, letter(e.Ready, "r"), letter(e.Serving, "s"), letter(e.Terminating, "t")))
	}
	return strings.Join(out, ", ")
}

func TestEndpointConditions(t *testing.T) {
	yes, no := ptr(true), ptr(false)
	tests := []struct {
		conditions discoveryv1.EndpointConditions
		want       string
	}{
		{discoveryv1.EndpointConditions{}, "RSt"},
		{discoveryv1.EndpointConditions{Ready: yes}, "RSt"},
		{discoveryv1.EndpointConditions{Ready: no}, "rSt"},
		{discoveryv1.EndpointConditions{Ready: no, Serving: yes, Terminating: yes}, "rST"},
		{discoveryv1.EndpointConditions{Ready: no, Serving: no, Terminating: yes}, "rsT"},
		{discoveryv1.EndpointConditions{Serving: no, Terminating: no}, "Rst"},
	}
	for _, tt := range tests {
		ep := at("10.1.1.5")
		ep.Conditions = tt.conditions
		if got, want := text(endpointsIn(newSlice("one", "", 80, ep))), " tcp 10.1.1.5:80 "+tt.want; got != want {
			t.Errorf("%+v: got %q, want %q", tt.conditions, got, want)
		}
	}
}

func TestEndpoints(t *testing.T) {
	noPort := newSlice("no-port", "http", 0, at("10.1.1.9"))
	nilPort, noName, big := noPort.DeepCopy(), newSlice("no-name", "http", 80, at("10.1.1.9")), newSlice("big", "http", 65616, at("10.1.1.9"))
	nilPort.Ports[0].Port, noName.Ports[0].Name = nil, nil
	udp := newSlice("udp", "dns", 53, at("10.1.1.5"))
	udp.Ports[0].Protocol = ptr(corev1.ProtocolUDP)
	unsaid := newSlice("unsaid", "http", 80, at("10.1.1.5"))
	unsaid.Ports[0].Protocol = nil
	tests := []struct {
		name   string
		slices []*discoveryv1.EndpointSlice
		want   string
	}{
		{"a named port that is another number in another slice",
			[]*discoveryv1.EndpointSlice{newSlice("one", "http", 8080, at("10.1.1.5")), newSlice("two", "http", 9090, at("10.1.1.6"))},
			"http tcp 10.1.1.5:8080 RSt, http tcp 10.1.1.6:9090 RSt"},
		{"ports and addresses split over slices, sorted",
			[]*discoveryv1.EndpointSlice{newSlice("two", "https", 8443, at("10.1.1.5")), newSlice("one", "http", 8080, at("10.1.1.6"), at("10.1.1.5"))},
			"http tcp 10.1.1.5:8080 RSt, http tcp 10.1.1.6:8080 RSt, https tcp 10.1.1.5:8443 RSt"},
		{"ports without a number or a name, or beyond the last one", []*discoveryv1.EndpointSlice{noPort, nilPort, noName, big}, ""},
		{"protocols", []*discoveryv1.EndpointSlice{udp, unsaid}, "dns udp 10.1.1.5:53 RSt, http tcp 10.1.1.5:80 RSt"},
		{"leading zeros", []*discoveryv1.EndpointSlice{newSlice("one", "", 80, at("010.001.001.008"))}, " tcp 10.1.1.8:80 RSt"},
		{"the first address alone", []*discoveryv1.EndpointSlice{newSlice("one", "", 80, discoveryv1.Endpoint{Addresses: []string{"10.1.1.5", "10.1.1.6"}})}, " tcp 10.1.1.5:80 RSt"},
		{"no address, and what is none", []*discoveryv1.EndpointSlice{newSlice("one", "", 80, discoveryv1.Endpoint{}, at("host.example.com"))}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := text(endpointsIn(tt.slices...)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestDuplicateEndpoints has one address and port in two slices. Whichever
// comes first, the same one counts.
func TestDuplicateEndpoints(t *testing.T) {
	with := func(change func(*discoveryv1.Endpoint)) discoveryv1.Endpoint {
		ep := at("10.1.1.5")
		ep.NodeName, ep.Hints = ptr("a"), &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "east"}}}
		change(&ep)
		return ep
	}
	better := with(func(*discoveryv1.Endpoint) {})
	for name, worse := range map[string]discoveryv1.Endpoint{
		"terminating": with(func(e *discoveryv1.Endpoint) { e.Conditions.Terminating = ptr(true) }),
		"not ready":   with(func(e *discoveryv1.Endpoint) { e.Conditions.Ready = ptr(false) }),
		"not serving": with(func(e *discoveryv1.Endpoint) { e.Conditions.Serving = ptr(false) }),
		"no node":     with(func(e *discoveryv1.Endpoint) { e.NodeName = nil }),
		"other node":  with(func(e *discoveryv1.Endpoint) { e.NodeName = ptr("b") }),
		"other zone":  with(func(e *discoveryv1.Endpoint) { e.Zone = ptr("east") }),
		"other hint": with(func(e *discoveryv1.Endpoint) {
			e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "west"}}}
		}),
		"node hint": with(func(e *discoveryv1.Endpoint) { e.Hints.ForNodes = []discoveryv1.ForNode{{Name: "a"}} }),
	} {
		t.Run(name, func(t *testing.T) {
			if name == "node hint" {
				worse.Hints = &discoveryv1.EndpointHints{ForZones: better.Hints.ForZones, ForNodes: worse.Hints.ForNodes}
			}
			one, two := newSlice("one", "", 80, better), newSlice("two", "", 80, worse)
			want := endpointsIn(one)
			for _, order := range [][]*discoveryv1.EndpointSlice{{one, two}, {two, one}} {
				if got := endpointsIn(order...); !reflect.DeepEqual(got, want) {
					t.Errorf("got %+v, want %+v", got, want)
				}
			}
		})
	}
	// Terminating weighs more than ready.
	ready := with(func(e *discoveryv1.Endpoint) { e.Conditions.Terminating = ptr(true) })
	unready := with(func(e *discoveryv1.Endpoint) { e.Conditions.Ready = ptr(false) })
	if got := endpointsIn(newSlice("one", "", 80, ready), newSlice("two", "", 80, unready)); got[0].Terminating {
		t.Errorf("got %+v", got)
	}
}

func TestToService(t *testing.T) {
	proxied := corev1.LoadBalancerIPModeProxy
	s := toService(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ClusterIPs: []string{"010.096.0.1", "fd00:96::1"}, ExternalIPs: []string{"203.0.113.009", "nonsense"},
			IPFamilies:      []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
			SessionAffinity: corev1.ServiceAffinityClientIP, InternalTrafficPolicy: ptr(corev1.ServiceInternalTrafficPolicyLocal),
			ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
			Ports:                 []corev1.ServicePort{{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, NodePort: 30053}, {Name: "x", Protocol: corev1.ProtocolSCTP, Port: 9}},
		},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.010"}, {IP: "192.0.2.11", IPMode: &proxied}, {Hostname: "lb.example.com"}}}},
	}, false)
	if got := fmt.Sprintln(s.ClusterIPs, s.ExternalIPs); got != "[10.96.0.1 fd00:96::1] [203.0.113.9]\n" {
		t.Errorf("addresses are %s", got)
	}
	if !slices.Equal(s.Families, []snapshot.Family{snapshot.IPv4, snapshot.IPv6}) {
		t.Errorf("families are %v", s.Families)
	}
	if s.Affinity != 3*time.Hour || s.InternalTrafficPolicy != snapshot.PolicyLocal || s.ExternalTrafficPolicy != snapshot.PolicyLocal {
		t.Errorf("got %+v", s)
	}
	if want := []snapshot.Port{{Name: "dns", Protocol: snapshot.UDP, Port: 53, NodePort: 30053}, {Name: "x", Protocol: snapshot.SCTP, Port: 9}}; !slices.Equal(s.Ports, want) {
		t.Errorf("ports are %+v", s.Ports)
	}
	if len(s.Ingress) != 3 || s.Ingress[0].IP.String() != "192.0.2.10" || s.Ingress[0].Proxy || !s.Ingress[1].Proxy || s.Ingress[2].IP.IsValid() || s.Ingress[2].Hostname == "" {
		t.Errorf("ingress is %+v", s.Ingress)
	}
}

func TestToServiceAffinity(t *testing.T) {
	for name, tt := range map[string]struct {
		affinity corev1.ServiceAffinity
		config   *corev1.SessionAffinityConfig
		want     time.Duration
	}{
		"none":         {corev1.ServiceAffinityNone, &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(int32(9))}}, 0},
		"default":      {corev1.ServiceAffinityClientIP, &corev1.SessionAffinityConfig{}, 3 * time.Hour},
		"with timeout": {corev1.ServiceAffinityClientIP, &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(int32(125))}}, 125 * time.Second},
	} {
		s := toService(&corev1.Service{Spec: corev1.ServiceSpec{SessionAffinity: tt.affinity, SessionAffinityConfig: tt.config}}, false)
		if s.Affinity != tt.want {
			t.Errorf("%s: got %s, want %s", name, s.Affinity, tt.want)
		}
	}
}

func TestToServiceHeadless(t *testing.T) {
	s := toService(&corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, ClusterIPs: []string{corev1.ClusterIPNone}}}, false)
	if !s.Headless || len(s.ClusterIPs) != 0 {
		t.Errorf("got %+v", s)
	}
	if old := toService(&corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1"}}, false); len(old.ClusterIPs) != 1 {
		t.Errorf("an old object without clusterIPs has %v", old.ClusterIPs)
	}
}

func endpointsIn(all ...*discoveryv1.EndpointSlice) []snapshot.Endpoint {
	var parts []*part
	for _, sl := range all {
		parts = append(parts, &part{endpoints: toEndpoints(sl)})
	}
	return union(parts)
}
