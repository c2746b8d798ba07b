package storytest

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

func bgpPeer(s *snapshot.Snapshot, name string, a *attrs) {
	out := &snapshot.BGPPeer{
		Name: name, NodeSelector: a.selector("node"),
		Multihop: uint8(a.number("multihop")), TTLSecurity: uint8(a.number("ttlsecurity")), Port: uint16(a.number("port")), Created: a.created(),
	}
	switch where := a.text("addr"); {
	case a.flag("gateway"):
		out.Gateway = true
	case strings.HasPrefix(where, "link:"):
		out.Interface = strings.TrimPrefix(where, "link:")
	default:
		out.Addr = each(a, []string{where}, netip.ParseAddr)[0]
	}
	if text := a.text("as"); text != "" {
		if _, err := fmt.Sscanf(text, "%d/%d", &out.PeerASN, &out.LocalASN); err != nil {
			a.errs = append(a.errs, err)
		}
	}
	out.HoldSet, out.KeepaliveSet = a.text("hold") != "", a.text("keepalive") != ""
	out.Hold, out.Keepalive = a.span("hold"), a.span("keepalive")
	if secret := a.text("secret"); secret != "" {
		out.Secret = snapshot.SecretKey{Name: secret, Key: "password"}
	}
	if source := a.addrs("source"); len(source) > 0 {
		out.Source = source[0]
	}
	out.RestartTime = a.span("restart")
	out.Graceful = out.RestartTime > 0
	out.Passive = a.flag("passive")
	if text := a.text("bfd"); text != "" {
		f := &snapshot.BFD{}
		var tx, rx int
		if _, err := fmt.Sscanf(text, "%d/%dx%d", &tx, &rx, &f.Multiplier); err != nil {
			a.errs = append(a.errs, err)
		}
		f.MinTx, f.MinRx = time.Duration(tx)*time.Millisecond, time.Duration(rx)*time.Millisecond
		out.BFD = f
	}
	s.BGPPeers = append(s.BGPPeers, out)
}

func wayOverBGP(a *attrs) *snapshot.BGPAnnouncement {
	out := &snapshot.BGPAnnouncement{
		Peers: a.list("peers"), Communities: a.list("communities"), LargeCommunities: a.list("large"),
		Length4: a.number("length"), Length6: a.number("length6"),
	}
	if a.text("localpref") != "" {
		pref := uint32(a.number("localpref"))
		out.LocalPref = &pref
	}
	return out
}
