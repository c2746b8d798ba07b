package gobgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/apiutil"
	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"github.com/osrg/gobgp/v3/pkg/server"

	"github.com/fairlead/fairlead/announcer/bgp"
)

// maxPrefixes is how many prefixes of a family a peer may announce before it is
// cut off. All are ignored, but gobgp remembers them.
const maxPrefixes = 1000

// deferral is for how many seconds a restarted session waits for the router's
// End-of-RIB before it announces: nothing here depends on the router's routes.
const deferral = 1

// engine is a gobgp server for one peer.
type engine struct{ bgp *server.BgpServer }

// accept makes b take in the connections that come through conns. gobgp v3.37.0
// takes in only what its own sockets accept, and every session is a process of its
// own here: they cannot all listen on one port. So conns is put where those sockets
// would write. Call it before b.Serve.
func accept(b *server.BgpServer, conns chan *net.TCPConn) error {
	field := reflect.ValueOf(b).Elem().FieldByName("acceptCh")
	if !field.IsValid() || field.Type() != reflect.TypeOf(conns) {
		return errors.New("this gobgp cannot be handed a connection")
	}
	*(*chan *net.TCPConn)(field.Addr().UnsafePointer()) = conns
	return nil
}

// serverASN is the AS number of a server, which no peer sees: every peer has
// its own.
const serverASN = 4294967294

func newEngine(ctx context.Context, routerID netip.Addr, conns chan *net.TCPConn, log *listener) (*engine, error) {
	e := &engine{bgp: server.NewBgpServer(server.LoggerOption(log))}
	if err := accept(e.bgp, conns); err != nil {
		return nil, err
	}
	go e.bgp.Serve() // it has no end
	global := &api.Global{Asn: serverASN, RouterId: routerID.String(), ListenPort: -1}
	if err := e.bgp.StartBgp(ctx, &api.StartBgpRequest{Global: global}); err != nil {
		return nil, fmt.Errorf("start BGP: %w", err)
	}
	if err := e.ignoreRoutes(ctx); err != nil {
		return nil, fmt.Errorf("import policy: %w", err)
	}
	return e, nil
}

// ignoreRoutes makes the import policy reject whatever is not our own.
func (e *engine) ignoreRoutes(ctx context.Context) error {
	own := &api.Policy{Name: "own", Statements: []*api.Statement{{
		Name:       "own",
		Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
		Actions:    &api.Actions{RouteAction: api.RouteAction_ACCEPT},
	}}}
	if err := e.bgp.AddPolicy(ctx, &api.AddPolicyRequest{Policy: own}); err != nil {
		return err
	}
	return e.bgp.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
		Name: "global", Direction: api.PolicyDirection_IMPORT, Policies: []*api.Policy{{Name: "own"}}, DefaultAction: api.RouteAction_REJECT,
	}})
}

func (e *engine) watch(ctx context.Context, took func(api.PeerState_SessionState)) error {
	return e.bgp.WatchEvent(ctx, &api.WatchEventRequest{Peer: &api.WatchEventRequest_Peer{}}, func(ev *api.WatchEventResponse) {
		if p := ev.GetPeer(); p != nil && p.Type == api.WatchEventResponse_PeerEvent_STATE {
			took(p.Peer.State.SessionState)
		}
	})
}

var families = []*api.Family{
	{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST},
	{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST},
}

func (e *engine) addPeer(ctx context.Context, p bgp.Peer, restarting bool) error {
	conf := &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: p.Addr.String(), PeerAsn: p.PeerASN, LocalAsn: p.LocalASN, AuthPassword: p.Password},
		Transport: &api.Transport{RemotePort: uint32(p.Port), PassiveMode: p.Passive},
		Timers: &api.Timers{Config: &api.TimersConfig{
			HoldTime: seconds(p.Hold), KeepaliveInterval: seconds(p.Keepalive), ConnectRetry: max(seconds(p.Connect), 1), IdleHoldTimeAfterReset: 1,
		}},
	}
	if p.Source.IsValid() {
		conf.Transport.LocalAddress = p.Source.String()
	}
	if p.Multihop > 0 {
		conf.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: uint32(p.Multihop)}
	}
	if p.TTLSecurity > 0 { // a packet loses one at every hop but the last
		conf.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: 256 - uint32(p.TTLSecurity)}
	}
	graceful := p.RestartTime > 0
	if graceful {
		conf.GracefulRestart = &api.GracefulRestart{
			Enabled: true, RestartTime: uint32(seconds(p.RestartTime)), DeferralTime: deferral, LocalRestarting: restarting,
		}
	}
	for _, f := range families {
		conf.AfiSafis = append(conf.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: f, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: graceful}},
			PrefixLimits:      &api.PrefixLimit{Family: f, MaxPrefixes: maxPrefixes},
		})
	}
	if err := e.bgp.AddPeer(ctx, &api.AddPeerRequest{Peer: conf}); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	return nil
}

// seconds rounds up: a short time must not become none.
func seconds(d time.Duration) uint64 { return uint64((d + time.Second - 1) / time.Second) }

// stop closes the session with a NOTIFICATION, and returns when it is closed.
func (e *engine) stop(ctx context.Context) error {
	if err := e.bgp.StopBgp(ctx, &api.StopBgpRequest{}); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

func (e *engine) reset(ctx context.Context, addr netip.Addr, why string) error {
	return e.bgp.ResetPeer(ctx, &api.ResetPeerRequest{Address: addr.String(), Communication: why})
}

func (e *engine) enable(ctx context.Context, addr netip.Addr) error {
	return e.bgp.EnablePeer(ctx, &api.EnablePeerRequest{Address: addr.String()})
}

// updates counts the UPDATE messages that were sent.
func (e *engine) updates(addr netip.Addr) (n uint64) {
	_ = e.bgp.ListPeer(context.Background(), &api.ListPeerRequest{Address: addr.String()}, func(p *api.Peer) {
		n = p.GetState().GetMessages().GetSent().GetUpdate()
	})
	return n
}

// takesForeign tells whether the peer's OPEN offers to take IPv4 prefixes with an
// IPv6 next hop (RFC 8950).
func (e *engine) takesForeign(ctx context.Context, addr netip.Addr) (yes bool) {
	_ = e.bgp.ListPeer(ctx, &api.ListPeerRequest{Address: addr.String()}, func(p *api.Peer) {
		for _, one := range p.GetState().GetRemoteCap() {
			var c api.ExtendedNexthopCapability
			if one.UnmarshalTo(&c) != nil {
				continue // another capability
			}
			yes = yes || slices.ContainsFunc(c.Tuples, func(t *api.ExtendedNexthopCapabilityTuple) bool {
				of, hop := t.NlriFamily, t.NexthopFamily
				return of.GetAfi() == api.Family_AFI_IP && of.GetSafi() == api.Family_SAFI_UNICAST && hop.GetAfi() == api.Family_AFI_IP6
			})
		}
	})
	return yes
}

// path adds a path to the server's table, or takes it out.
func (e *engine) path(ctx context.Context, peer bgp.Peer, p bgp.Path, withdraw bool) error {
	out, err := toAPI(peer, p, withdraw)
	if err == nil && withdraw {
		err = e.bgp.DeletePath(ctx, &api.DeletePathRequest{TableType: api.TableType_GLOBAL, Path: out})
	} else if err == nil {
		_, err = e.bgp.AddPath(ctx, &api.AddPathRequest{TableType: api.TableType_GLOBAL, Path: out})
	}
	if err != nil {
		return fmt.Errorf("path %s: %w", p.Prefix, err)
	}
	return nil
}

// igp is the ORIGIN of what is announced (RFC 4271 section 5.1.1).
const igp = 0

func toAPI(peer bgp.Peer, p bgp.Path, withdraw bool) (*api.Path, error) {
	addr, bits := p.Prefix.Addr(), uint8(p.Prefix.Bits())
	var nlri packet.AddrPrefixInterface = packet.NewIPAddrPrefix(bits, addr.String())
	attrs := []packet.PathAttributeInterface{packet.NewPathAttributeOrigin(igp)}
	hop := p.NextHop
	if addr.Is4() {
		if !hop.IsValid() {
			hop = netip.IPv4Unspecified()
		}
		attrs = append(attrs, packet.NewPathAttributeNextHop(hop.String()))
	} else {
		if !hop.IsValid() {
			hop = netip.IPv6Unspecified()
		}
		nlri = packet.NewIPv6AddrPrefix(bits, addr.String())
		attrs = append(attrs, packet.NewPathAttributeMpReachNLRI(hop.String(), []packet.AddrPrefixInterface{nlri}))
	}
	if peer.LocalASN == peer.PeerASN {
		attrs = append(attrs, packet.NewPathAttributeLocalPref(p.LocalPref))
	}
	if len(p.Communities) > 0 {
		attrs = append(attrs, packet.NewPathAttributeCommunities(p.Communities))
	}
	if len(p.LargeCommunities) > 0 {
		var large []*packet.LargeCommunity
		for _, c := range p.LargeCommunities {
			large = append(large, &packet.LargeCommunity{ASN: c[0], LocalData1: c[1], LocalData2: c[2]})
		}
		attrs = append(attrs, packet.NewPathAttributeLargeCommunities(large))
	}
	return apiutil.NewPath(nlri, withdraw, attrs, time.Now())
}
