package kube

import (
	"cmp"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// passwordKey is the key of a password in a Secret that does not name one.
const passwordKey = "password"

func toBGPPeer(p *v1alpha1.BGPPeer) *snapshot.BGPPeer {
	out := &snapshot.BGPPeer{
		Name: p.Name, Generation: p.Generation, Ready: toConditions(p.Status.Conditions)[v1alpha1.ConditionReady], Created: p.CreationTimestamp.Time, Port: uint16(p.Spec.Port), PeerASN: uint32(p.Spec.PeerASN), LocalASN: uint32(p.Spec.LocalASN),
		NodeSelector: toSelector(p.Spec.NodeSelector), HoldSet: p.Spec.HoldTime != nil, Hold: duration(p.Spec.HoldTime),
		KeepaliveSet: p.Spec.KeepaliveTime != nil, Keepalive: duration(p.Spec.KeepaliveTime), Connect: duration(p.Spec.ConnectTime), Passive: p.Spec.Passive,
	}
	out.Addr, _ = snapshot.ParseZoned(string(p.Spec.Address))
	out.Interface, out.Gateway = p.Spec.Interface, p.Spec.DefaultGateway
	out.Source, _ = snapshot.ParseAddr(string(p.Spec.SourceAddress))
	if s := p.Spec.PasswordSecretRef; s != nil {
		out.Secret = snapshot.SecretKey{Name: s.Name, Key: cmp.Or(s.Key, passwordKey)}
	}
	if p.Spec.EBGPMultihop != nil {
		out.Multihop = uint8(*p.Spec.EBGPMultihop)
	}
	if p.Spec.TTLSecurity != nil {
		out.TTLSecurity = uint8(*p.Spec.TTLSecurity)
	}
	if g := p.Spec.GracefulRestart; g != nil {
		out.Graceful, out.RestartTime = true, duration(g.RestartTime)
	}
	if f := p.Spec.BFD; f != nil {
		out.BFD = &snapshot.BFD{
			MinRx: cmp.Or(duration(f.ReceiveInterval), defaultBFD), MinTx: cmp.Or(duration(f.TransmitInterval), defaultBFD),
			Multiplier: int(cmp.Or(f.DetectMultiplier, 3)), Passive: f.Passive,
		}
	}
	return out
}

// defaultBFD is the interval of a BFD session that names none.
const defaultBFD = 300 * time.Millisecond

func duration(d *metav1.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return d.Duration
}

func toBGP(b *v1alpha1.BGPAnnouncement) *snapshot.BGPAnnouncement {
	out := &snapshot.BGPAnnouncement{Peers: b.Peers}
	for _, c := range b.Communities {
		out.Communities = append(out.Communities, string(c))
	}
	for _, c := range b.LargeCommunities {
		out.LargeCommunities = append(out.LargeCommunities, string(c))
	}
	if b.LocalPref != nil {
		pref := uint32(*b.LocalPref)
		out.LocalPref = &pref
	}
	if b.AggregationLength != nil {
		out.Length4 = int(*b.AggregationLength)
	}
	if b.AggregationLengthV6 != nil {
		out.Length6 = int(*b.AggregationLengthV6)
	}
	return out
}
