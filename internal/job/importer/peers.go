package importer

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// multihop is the TTL that MetalLB's ebgpMultiHop means.
const multihop = 255

func (m *maker) peer(p bgpPeer) {
	id := "BGPPeer/" + p.Name
	spec := v1alpha1.BGPPeerSpec{
		Address: v1alpha1.RouterAddress(p.Spec.PeerAddress), Port: p.Spec.PeerPort, PeerASN: p.Spec.PeerASN, LocalASN: p.Spec.MyASN,
		HoldTime: p.Spec.HoldTime, KeepaliveTime: p.Spec.KeepaliveTime, ConnectTime: p.Spec.ConnectTime,
		SourceAddress: v1alpha1.IPAddress(p.Spec.SourceAddress),
	}
	var notes []string
	if !address(p.Spec.PeerAddress) || spec.PeerASN == 0 {
		m.note(id + " has no equal: fairlead needs the address and the AS number of a peer, not an interface or a dynamic AS number")
		return
	}
	if p.Spec.EBGPMultiHop && spec.PeerASN != spec.LocalASN {
		ttl := int32(multihop)
		spec.EBGPMultihop = &ttl
	}
	if p.Spec.EnableGracefulRestart {
		spec.GracefulRestart = &v1alpha1.GracefulRestart{}
	}
	notes = append(notes, m.password(p, &spec)...)
	notes = append(notes, m.bfd(p.Spec.BFDProfile, &spec)...)
	selectors := orNone(anyOf(p.Spec.NodeSelectors))
	if len(selectors) > 1 {
		notes = append(notes, "a BGPPeer for each node selector: see that no node has the labels of two")
	}
	for i, nodes := range selectors {
		out := &v1alpha1.BGPPeer{TypeMeta: typeOf("BGPPeer"), ObjectMeta: metav1.ObjectMeta{Name: unique(p.Name, i+1)}, Spec: spec}
		out.Spec.NodeSelector = nodes
		m.peerNames[p.Name] = append(m.peerNames[p.Name], out.Name)
		m.put(out, id, notes...)
		notes = nil // said once
	}
}

// password makes spec refer to the Secret with the password, and makes one if
// the password is written in the peer.
func (m *maker) password(p bgpPeer, spec *v1alpha1.BGPPeerSpec) []string {
	switch {
	case p.Spec.PasswordSecret.Name != "":
		spec.PasswordSecretRef = &v1alpha1.SecretKeyRef{Name: p.Spec.PasswordSecret.Name}
		return []string{fmt.Sprintf("copy Secret %s to fairlead's namespace", p.Spec.PasswordSecret.Name)}
	case p.Spec.Password != "":
		name := p.Name + "-password"
		spec.PasswordSecretRef = &v1alpha1.SecretKeyRef{Name: name}
		m.put(&corev1.Secret{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Name: name},
			StringData: map[string]string{"password": p.Spec.Password},
		}, "", "from the password of BGPPeer "+p.Name+": apply it in fairlead's namespace")
	}
	return nil
}

// bfd writes the profile of this name into spec.
func (m *maker) bfd(name string, spec *v1alpha1.BGPPeerSpec) []string {
	if name == "" {
		return nil
	}
	p, ok := m.profiles[name]
	if !ok {
		return []string{"there is no BFDProfile " + name}
	}
	spec.BFD = &v1alpha1.BFD{
		ReceiveInterval: milliseconds(p.Spec.ReceiveInterval), TransmitInterval: milliseconds(p.Spec.TransmitInterval),
		DetectMultiplier: p.Spec.DetectMultiplier, Passive: p.Spec.PassiveMode,
	}
	var notes []string
	for _, field := range m.unread["BFDProfile/"+name] {
		notes = append(notes, "BFDProfile "+name+", "+field+" has no equal")
	}
	return notes
}

func milliseconds(n *int64) *metav1.Duration {
	if n == nil {
		return nil
	}
	return &metav1.Duration{Duration: time.Duration(*n) * time.Millisecond}
}
