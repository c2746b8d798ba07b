package importer

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go4.org/netipx"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// KubeVIP converts the ConfigMap kubevip of kube-vip's cloud provider, and what the
// environment of kube-vip's DaemonSet or Pods says of announcing.
func KubeVIP(w io.Writer, objects []Object) (comments int, err error) {
	k := &kubeVIP{page: newPage()}
	for _, o := range objects {
		if err := k.add(o); err != nil {
			return 0, err
		}
	}
	for _, p := range k.peers {
		k.put(p, "")
	}
	for _, a := range k.announcements {
		k.put(a, "")
	}
	return k.write(w)
}

type kubeVIP struct {
	page
	peers         []*v1alpha1.BGPPeer
	announcements []*v1alpha1.Announcement
}

// The annotations of Services, and fairlead's that say the same.
var kubeVIPAnnotations = map[string]string{"kube-vip.io/loadbalancerIPs": v1alpha1.AnnotationAddresses}

func (k *kubeVIP) add(o Object) error {
	group, kind, id, meta, err := head(o)
	if err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	switch {
	case group == "" && kind == "ConfigMap" && meta.Name == "kubevip":
		var config corev1.ConfigMap
		config, err = read[corev1.ConfigMap](o)
		k.pools(config.Data)
	case group == "apps" && kind == "DaemonSet":
		var set appsv1.DaemonSet
		set, err = read[appsv1.DaemonSet](o)
		k.pod(id, set.Spec.Template.Spec)
	case group == "" && kind == "Pod":
		var pod corev1.Pod
		pod, err = read[corev1.Pod](o)
		k.pod(id, pod.Spec)
	case group == "" && kind == "Service":
		k.service(meta, kubeVIPAnnotations)
	default:
		k.other = append(k.other, id+" is not kube-vip's")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	return nil
}

// dhcp is kube-vip's word for an address that a DHCP server gives.
const dhcp = "0.0.0.0/32"

// pools makes a pool of what each namespace has: cidr-NAMESPACE and range-NAMESPACE, or
// global.
func (k *kubeVIP) pools(data map[string]string) {
	made := map[string]*v1alpha1.AddressPool{}
	notes := map[string][]string{}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		what, namespace, _ := strings.Cut(key, "-")
		if what != "cidr" && what != "range" {
			k.setting(key, data[key])
			continue
		}
		p := made[namespace]
		if p == nil {
			p = poolCalled(namespace)
			if namespace != "global" {
				p.Spec.Namespaces = []string{namespace}
			}
			made[namespace] = p
		}
		for _, text := range strings.Split(data[key], ",") {
			if strings.TrimSpace(text) == dhcp {
				notes[namespace] = append(notes[namespace], key+": fairlead does not ask a DHCP server: give the pool addresses")
				continue
			}
			entry, why := poolEntry(text)
			if why != "" {
				notes[namespace] = append(notes[namespace], why)
			}
			p.Spec.Addresses = append(p.Spec.Addresses, entry)
			if data["skip-end-ips-in-cidr"] == "true" {
				p.Spec.Exclude = append(p.Spec.Exclude, ends(entry)...)
			}
		}
	}
	for _, namespace := range slices.Sorted(maps.Keys(made)) {
		k.put(made[namespace], "", notes[namespace]...)
	}
}

// ends are the first and the last address of an IPv4 CIDR; none of anything else.
func ends(entry string) []v1alpha1.AddressRange {
	p, err := netip.ParsePrefix(entry)
	if err != nil || !p.Addr().Is4() || p.Bits() > 30 {
		return nil
	}
	r := netipx.RangeOfPrefix(p)
	return []v1alpha1.AddressRange{v1alpha1.AddressRange(r.From().String()), v1alpha1.AddressRange(r.To().String())}
}

// setting is a key of the ConfigMap that makes no pool.
func (k *kubeVIP) setting(key, value string) {
	what, namespace, _ := strings.Cut(key, "-")
	switch {
	case key == "skip-end-ips-in-cidr":
	case what == "interface":
		k.announcements = append(k.announcements, &v1alpha1.Announcement{
			TypeMeta: typeOf("Announcement"), ObjectMeta: metav1.ObjectMeta{Name: namespace},
			Spec: v1alpha1.AnnouncementSpec{PoolSelector: byName([]string{namespace}), L2: &v1alpha1.L2Announcement{Interfaces: []string{value}}},
		})
	case strings.HasPrefix(key, "allow-share-"):
		k.other = append(k.other, key+": Services that may share an address need the same "+v1alpha1.AnnotationShareKey)
	default:
		k.other = append(k.other, fmt.Sprintf("%s: %s has no equal", key, value))
	}
}

// pod reads how kube-vip announces from the environment of its container.
func (k *kubeVIP) pod(id string, pod corev1.PodSpec) {
	env := map[string]string{}
	for _, c := range pod.Containers {
		if !strings.Contains(c.Image, "kube-vip") {
			continue
		}
		for _, e := range c.Env {
			env[e.Name] = e.Value
		}
	}
	switch {
	case len(env) == 0:
		k.other = append(k.other, id+" is not kube-vip's")
		return
	case env["cp_enable"] == "true":
		k.other = append(k.other, id+": cp_enable: fairlead has no address for the API server; leave kube-vip to it with svc_enable=false")
	}
	if link := cmp.Or(env["vip_servicesinterface"], env["vip_interface"]); env["vip_arp"] == "true" && link != "" {
		k.announcements = append(k.announcements, &v1alpha1.Announcement{
			TypeMeta: typeOf("Announcement"), ObjectMeta: metav1.ObjectMeta{Name: "kube-vip"},
			Spec: v1alpha1.AnnouncementSpec{L2: &v1alpha1.L2Announcement{Interfaces: []string{link}}},
		})
	}
	if env["bgp_enable"] == "true" {
		k.bgp(id, env)
	}
}

func (k *kubeVIP) bgp(id string, env map[string]string) {
	peers := strings.Split(env["bgp_peers"], ",")
	if env["bgp_peers"] == "" {
		peers = []string{strings.Join([]string{bracketed(env["bgp_peeraddress"]), env["bgp_peeras"], env["bgp_peerpass"], env["bgp_multihop"]}, ":")}
	}
	asn, _ := strconv.ParseInt(env["bgp_as"], 10, 64)
	for i, text := range peers {
		p, why := kubeVIPPeer(text, asn)
		if p == nil {
			k.other = append(k.other, id+": BGP peer "+why)
			continue
		}
		p.Name = unique("kube-vip", i+1)
		if why != "" {
			k.other = append(k.other, "BGPPeer/"+p.Name+": "+why)
		}
		k.peers = append(k.peers, p)
	}
	k.announcements = append(k.announcements, &v1alpha1.Announcement{
		TypeMeta: typeOf("Announcement"), ObjectMeta: metav1.ObjectMeta{Name: "kube-vip-bgp"},
		Spec: v1alpha1.AnnouncementSpec{BGP: &v1alpha1.BGPAnnouncement{}},
	})
}

func bracketed(addr string) string {
	if strings.Contains(addr, ":") && !strings.HasPrefix(addr, "[") {
		return "[" + addr + "]"
	}
	return addr
}

// kubeVIPPeer reads ADDRESS:AS:PASSWORD:MULTIHOP, an IPv6 address in brackets. It
// returns nil and why if the address or the AS number cannot be read.
func kubeVIPPeer(text string, local int64) (*v1alpha1.BGPPeer, string) {
	addr, rest, _ := strings.Cut(text, ":")
	if inner, after, ok := strings.Cut(text, "]:"); ok {
		addr, rest = strings.TrimPrefix(inner, "["), after
	}
	fields := append(strings.Split(rest, ":"), "", "", "")
	asn, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil || !address(addr) {
		return nil, fmt.Sprintf("%s: its address or AS number cannot be read", addr)
	}
	p := &v1alpha1.BGPPeer{TypeMeta: typeOf("BGPPeer"), Spec: v1alpha1.BGPPeerSpec{Address: v1alpha1.RouterAddress(addr), PeerASN: asn, LocalASN: local}}
	if fields[2] == "true" && asn != local {
		ttl := int32(multihop)
		p.Spec.EBGPMultihop = &ttl
	}
	if fields[1] != "" {
		return p, "it has a password: put it into a Secret in fairlead's namespace and name that in spec.passwordSecretRef"
	}
	return p, ""
}
