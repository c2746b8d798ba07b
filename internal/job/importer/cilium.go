package importer

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// Cilium converts the pools of Cilium's LB IPAM, its L2 announcement policies and its
// BGP control plane.
func Cilium(w io.Writer, objects []Object) (comments int, err error) {
	c := &cilium{page: newPage(), configs: map[string]ciliumPeerConfig{}}
	for _, o := range objects {
		if err := c.add(o, source{"Cilium", "cilium.io", ciliumAnnotations}, c.addKind); err != nil {
			return 0, err
		}
	}
	for _, p := range c.pools {
		c.pool(p)
	}
	for _, b := range c.clusters {
		c.cluster(b)
	}
	for _, l := range c.policies {
		c.policy(l)
	}
	for _, a := range c.advertisements {
		c.advertisement(a)
	}
	if len(c.pools) > 0 && len(c.policies)+len(c.advertisements) == 0 {
		c.note("no policy and no advertisement: Cilium does not announce these pools, fairlead announces them over layer 2 on every suitable link")
	}
	return c.write(w)
}

type cilium struct {
	page
	pools          []ciliumPool
	policies       []ciliumPolicy
	clusters       []ciliumCluster
	configs        map[string]ciliumPeerConfig
	advertisements []ciliumAdvertisement
	peers          []ciliumNeighbour
}

// ciliumNeighbour is a peer that was made, with the selectors of the advertisements that
// it gets.
type ciliumNeighbour struct {
	name string
	gets []metav1.LabelSelector
}

var ciliumAnnotations = map[string]string{
	"lbipam.cilium.io/ips": v1alpha1.AnnotationAddresses, "io.cilium/lb-ipam-ips": v1alpha1.AnnotationAddresses,
	"lbipam.cilium.io/sharing-key": v1alpha1.AnnotationShareKey, "io.cilium/lb-ipam-sharing-key": v1alpha1.AnnotationShareKey,
	"lbipam.cilium.io/sharing-cross-namespace": v1alpha1.AnnotationShareNamespaces, "io.cilium/lb-ipam-sharing-cross-namespace": v1alpha1.AnnotationShareNamespaces,
}

func (c *cilium) addKind(kind, id string, raw Object) error {
	switch kind {
	case "CiliumLoadBalancerIPPool":
		return decode(&c.page, id, raw, func(o ciliumPool) { c.pools = append(c.pools, o) })
	case "CiliumL2AnnouncementPolicy":
		return decode(&c.page, id, raw, func(o ciliumPolicy) { c.policies = append(c.policies, o) })
	case "CiliumBGPClusterConfig":
		return decode(&c.page, id, raw, func(o ciliumCluster) { c.clusters = append(c.clusters, o) })
	case "CiliumBGPPeerConfig":
		return decode(&c.page, id, raw, func(o ciliumPeerConfig) { c.configs[o.Name] = o })
	case "CiliumBGPAdvertisement":
		return decode(&c.page, id, raw, func(o ciliumAdvertisement) { c.advertisements = append(c.advertisements, o) })
	case "CiliumBGPPeeringPolicy":
		c.other = append(c.other, id+" has no equal: turn it into a CiliumBGPClusterConfig first")
		return nil
	}
	c.other = append(c.other, id+" has no equal")
	return nil
}

func (c *cilium) pool(p ciliumPool) {
	out := poolCalled(p.Name)
	out.Spec.Disabled = p.Spec.Disabled
	var notes []string
	for _, b := range slices.Concat(p.Spec.Blocks, p.Spec.CIDRs) {
		entry, why := b.CIDR, ""
		if entry == "" {
			entry = b.Start
			if b.Stop != "" {
				entry += "-" + b.Stop
			}
		}
		if entry, why = poolEntry(entry); why != "" {
			notes = append(notes, why)
		}
		out.Spec.Addresses = append(out.Spec.Addresses, entry)
		if p.Spec.AllowFirstLastIPs == "No" {
			out.Spec.Exclude = append(out.Spec.Exclude, ends(entry)...)
		}
	}
	out.Spec.Namespaces, out.Spec.ServiceSelector = c.selector(p.Spec.ServiceSelector, &notes)
	c.put(out, "CiliumLoadBalancerIPPool/"+p.Name, notes...)
}

// Cilium gives every Service these labels, for selectors alone.
const (
	ciliumNamespace = "io.kubernetes.service.namespace"
	ciliumName      = "io.kubernetes.service.name"
)

// selector parts a selector of Services into their namespaces and their labels.
func (c *cilium) selector(in *metav1.LabelSelector, notes *[]string) (namespaces []string, out *metav1.LabelSelector) {
	if in == nil {
		return nil, nil
	}
	out = in.DeepCopy()
	if ns, ok := out.MatchLabels[ciliumNamespace]; ok {
		namespaces = []string{ns}
		delete(out.MatchLabels, ciliumNamespace)
	}
	out.MatchExpressions = slices.DeleteFunc(out.MatchExpressions, func(r metav1.LabelSelectorRequirement) bool {
		if r.Key == ciliumNamespace && r.Operator == metav1.LabelSelectorOpIn && namespaces == nil {
			namespaces = r.Values
			return true
		}
		return false
	})
	text := metav1.FormatLabelSelector(out)
	if strings.Contains(text, ciliumNamespace) || strings.Contains(text, ciliumName) {
		*notes = append(*notes, "the selector has no equal, as Services have no such label: "+text)
	}
	if len(out.MatchLabels)+len(out.MatchExpressions) == 0 {
		out = nil
	}
	return namespaces, out
}

// everywhere is selector for an Announcement, which has no namespaces.
func (c *cilium) everywhere(in *metav1.LabelSelector, notes *[]string) *metav1.LabelSelector {
	namespaces, out := c.selector(in, notes)
	if len(namespaces) > 0 {
		*notes = append(*notes, "an Announcement cannot select namespaces ("+strings.Join(namespaces, ", ")+"): select the pool that serves them by spec.poolSelector")
	}
	return out
}

var plainLink = regexp.MustCompile(`^\^?([0-9A-Za-z._-]+)\$?$`)

func (c *cilium) policy(l ciliumPolicy) {
	id := "CiliumL2AnnouncementPolicy/" + l.Name
	if !l.Spec.LoadBalancerIPs {
		c.other = append(c.other, id+" announces no address of LoadBalancers: it is left out")
		return
	}
	var notes []string
	out := &v1alpha1.Announcement{TypeMeta: typeOf("Announcement"), ObjectMeta: metav1.ObjectMeta{Name: l.Name}}
	out.Spec.NodeSelector, out.Spec.ServiceSelector = l.Spec.NodeSelector, c.everywhere(l.Spec.ServiceSelector, &notes)
	out.Spec.L2 = &v1alpha1.L2Announcement{}
	for _, text := range l.Spec.Interfaces {
		m := plainLink.FindStringSubmatch(text)
		if m == nil {
			notes = append(notes, fmt.Sprintf("interfaces: fairlead has names and patterns such as eth*, not regular expressions: write %q so", text))
			continue
		}
		out.Spec.L2.Interfaces = append(out.Spec.L2.Interfaces, m[1])
	}
	c.put(out, id, notes...)
}

func (c *cilium) cluster(b ciliumCluster) {
	for _, instance := range b.Spec.BGPInstances {
		for _, p := range instance.Peers {
			c.peer(b, instance.Name, instance.LocalASN, p)
		}
	}
}

func (c *cilium) peer(b ciliumCluster, instance string, local int64, p ciliumPeer) {
	id := "CiliumBGPClusterConfig/" + b.Name
	name := b.Name + "-" + instance + "-" + p.Name
	if !address(p.PeerAddress) || p.PeerASN == 0 || local == 0 {
		c.other = append(c.other, id+": peer "+p.Name+" has no equal: fairlead needs its address, its AS number and the local one")
		return
	}
	out := &v1alpha1.BGPPeer{TypeMeta: typeOf("BGPPeer"), ObjectMeta: metav1.ObjectMeta{Name: name}}
	out.Spec = v1alpha1.BGPPeerSpec{Address: v1alpha1.RouterAddress(p.PeerAddress), PeerASN: p.PeerASN, LocalASN: local, NodeSelector: b.Spec.NodeSelector}
	neighbour := ciliumNeighbour{name: name}
	var notes []string
	if ref := p.PeerConfigRef.Name; ref != "" {
		config, there := c.configs[ref]
		if !there {
			notes = append(notes, "there is no CiliumBGPPeerConfig "+ref)
		}
		notes = append(notes, config.apply(&out.Spec)...)
		for _, field := range c.unread["CiliumBGPPeerConfig/"+ref] {
			notes = append(notes, "CiliumBGPPeerConfig "+ref+", "+field+" has no equal")
		}
		for _, f := range config.Spec.Families {
			if f.Advertisements != nil {
				neighbour.gets = append(neighbour.gets, *f.Advertisements)
			}
		}
	}
	c.peers = append(c.peers, neighbour)
	c.put(out, id, notes...)
}

// apply writes what a config says into a peer.
func (p ciliumPeerConfig) apply(to *v1alpha1.BGPPeerSpec) (notes []string) {
	seconds := func(n *int32) *metav1.Duration {
		if n == nil {
			return nil
		}
		return &metav1.Duration{Duration: time.Duration(*n) * time.Second}
	}
	to.Port = p.Spec.Transport.PeerPort
	to.HoldTime, to.KeepaliveTime, to.ConnectTime = seconds(p.Spec.Timers.HoldTimeSeconds), seconds(p.Spec.Timers.KeepAliveTimeSeconds), seconds(p.Spec.Timers.ConnectRetryTimeSeconds)
	if ttl := p.Spec.EBGPMultihop; ttl > 1 && to.PeerASN != to.LocalASN {
		to.EBGPMultihop = &ttl
	}
	if p.Spec.GracefulRestart.Enabled {
		to.GracefulRestart = &v1alpha1.GracefulRestart{RestartTime: seconds(p.Spec.GracefulRestart.RestartTimeSeconds)}
	}
	if p.Spec.AuthSecretRef != "" {
		to.PasswordSecretRef = &v1alpha1.SecretKeyRef{Name: p.Spec.AuthSecretRef}
		notes = append(notes, fmt.Sprintf("copy Secret %s to fairlead's namespace", p.Spec.AuthSecretRef))
	}
	return notes
}

func (c *cilium) advertisement(a ciliumAdvertisement) {
	id := "CiliumBGPAdvertisement/" + a.Name
	n := 0
	for _, ad := range a.Spec.Advertisements {
		if ad.AdvertisementType != "Service" || !slices.Contains(ad.Service.Addresses, "LoadBalancerIP") || ad.Selector == nil {
			c.other = append(c.other, fmt.Sprintf("%s: an advertisement of type %s selects no address of LoadBalancers: it is left out", id, ad.AdvertisementType))
			continue
		}
		n++
		var notes []string
		b := &v1alpha1.BGPAnnouncement{LocalPref: ad.Attributes.LocalPreference, Peers: c.getting(a.Labels)}
		if len(b.Peers) == 0 {
			notes = append(notes, "no peer gets this advertisement from Cilium; without spec.bgp.peers, every BGPPeer does")
		}
		for _, text := range slices.Concat(ad.Attributes.Communities.Standard, ad.Attributes.Communities.WellKnown) {
			b.Communities = append(b.Communities, v1alpha1.Community(text))
		}
		for _, text := range ad.Attributes.Communities.Large {
			b.LargeCommunities = append(b.LargeCommunities, v1alpha1.LargeCommunity(text))
		}
		out := &v1alpha1.Announcement{TypeMeta: typeOf("Announcement"), ObjectMeta: metav1.ObjectMeta{Name: unique(a.Name, n)}}
		out.Spec.BGP, out.Spec.ServiceSelector = b, c.everywhere(ad.Selector, &notes)
		c.put(out, id, notes...)
	}
}

// getting lists the peers that get the advertisements with these labels.
func (c *cilium) getting(set map[string]string) (out []string) {
	for _, p := range c.peers {
		if slices.ContainsFunc(p.gets, func(l metav1.LabelSelector) bool {
			sel, err := metav1.LabelSelectorAsSelector(&l)
			return err == nil && sel.Matches(labels.Set(set))
		}) {
			out = append(out, p.name)
		}
	}
	return out
}
