package storytest

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

func bgpPeer(s *snapshot.Snapshot, name string, a *attrs) {
	out := &snapshot.BGPPeer{
		Name: name, NodeSelector: a.selector("node"), Addr: each(a, []string{a.text("addr")}, netip.ParseAddr)[0],
		Multihop: uint8(number(a, "multihop")), TTLSecurity: uint8(number(a, "ttlsecurity")), Port: uint16(number(a, "port")), Created: time.Unix(1e9, 0).Add(-span(a, "age")),
	}
	if text := a.text("as"); text != "" {
		if _, err := fmt.Sscanf(text, "%d/%d", &out.PeerASN, &out.LocalASN); err != nil {
			a.errs = append(a.errs, err)
		}
	}
	out.HoldSet, out.KeepaliveSet = a.text("hold") != "", a.text("keepalive") != ""
	out.Hold, out.Keepalive = span(a, "hold"), span(a, "keepalive")
	if secret := a.text("secret"); secret != "" {
		out.Secret = snapshot.SecretKey{Name: secret, Key: "password"}
	}
	if source := a.addrs("source"); len(source) > 0 {
		out.Source = source[0]
	}
	out.RestartTime = span(a, "restart")
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
		Length4: number(a, "length"), Length6: number(a, "length6"),
	}
	if a.text("localpref") != "" {
		pref := uint32(number(a, "localpref"))
		out.LocalPref = &pref
	}
	return out
}

func number(a *attrs, name string) int {
	text := a.text(name)
	if text == "" {
		return 0
	}
	return each(a, []string{text}, strconv.Atoi)[0]
}

func span(a *attrs, name string) time.Duration {
	text := a.text(name)
	if text == "" {
		return 0
	}
	return each(a, []string{text}, time.ParseDuration)[0]
}
