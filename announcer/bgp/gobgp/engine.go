package gobgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/apiutil"
	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"github.com/osrg/gobgp/v3/pkg/server"

	"github.com/fairlead/fairlead/announcer/bgp"
)

// deferral is for how many seconds a restarted session would wait for the End-of-RIB
// of a router that names families in its graceful restart capability. The sieve
// leaves them out.
const deferral = 1

// here is the router for gobgp: its connections are those of this process with itself.
var here = netip.AddrFrom4([4]byte{127, 0, 0, 1}).String()

// engine is a gobgp server for one peer. What it is fed has gone through a sieve.
type engine struct{ bgp *server.BgpServer }

// accept makes b take in the connections that come through conns. gobgp v3.37.0
// takes in only what its own sockets accept, and a session's connections come from
// elsewhere. So conns is put where those sockets would write. Call it before b.Serve.
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
	return e, nil
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
		Conf:      &api.PeerConf{NeighborAddress: here, PeerAsn: p.PeerASN, LocalAsn: p.LocalASN},
		Transport: &api.Transport{PassiveMode: true},
		Timers: &api.Timers{Config: &api.TimersConfig{
			HoldTime: seconds(p.Hold), KeepaliveInterval: seconds(p.Keepalive), IdleHoldTimeAfterReset: 1,
		}},
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

func (e *engine) reset(ctx context.Context, why string) error {
	return e.bgp.ResetPeer(ctx, &api.ResetPeerRequest{Address: here, Communication: why})
}

// updates counts the UPDATE messages that were sent.
func (e *engine) updates() (n uint64) {
	_ = e.bgp.ListPeer(context.Background(), &api.ListPeerRequest{Address: here}, func(p *api.Peer) {
		n = p.GetState().GetMessages().GetSent().GetUpdate()
	})
	return n
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
	var nlri packet.AddrPrefixInterface = packet.NewIPv6AddrPrefix(bits, addr.String())
	if addr.Is4() {
		nlri = packet.NewIPAddrPrefix(bits, addr.String())
	}
	attrs := []packet.PathAttributeInterface{packet.NewPathAttributeOrigin(igp)}
	if addr.Is4() && p.NextHop.Is4() {
		attrs = append(attrs, packet.NewPathAttributeNextHop(p.NextHop.String()))
	} else {
		// RFC 4760, and RFC 8950 for IPv4.
		attrs = append(attrs, packet.NewPathAttributeMpReachNLRI(p.NextHop.String(), []packet.AddrPrefixInterface{nlri}))
	}
	// RFC 4271 section 5.1.5 wants it within an AS, and forbids it between two.
	if peer.Internal() {
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
