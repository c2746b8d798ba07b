package agent

import (
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
	"github.com/fairlead/fairlead/proxy"
)

// listening is what the node's processes listen on, of the ports of its own addresses
// that Services have. It is known before the engine takes any of them. The engine's loop
// alone uses it.
type listening struct {
	sockets  func() ([]nodeport.Socket, error)
	claims   []nodeport.Claim
	at       time.Time // when the sockets were read
	kept     []proxy.Target
	problems []snapshot.Problem
}

// ports returns the ports that order gives to Services and processes of the node listen
// on. It reads the sockets when order gives other ones than the last, and now and then.
func (l *listening) ports(e *engine, order engineOrder) []proxy.Target {
	claims := nodeport.Claims(order.Snapshot, order.Self)
	if len(claims) == 0 {
		l.claims, l.kept, l.problems = nil, nil, nil
		return nil
	}
	if !slices.Equal(claims, l.claims) || time.Since(l.at) >= occupiedEvery {
		l.claims, l.at = claims, time.Now()
		sockets, err := l.sockets()
		if l.kept, l.problems = nodeport.Listening(claims, sockets); err != nil {
			// What the node listens on is not known: SSH may be among it.
			e.cfg.Log.Error("cannot give Services ports of this node's own addresses", "error", err)
			l.kept = nil
			for _, c := range claims {
				l.kept = append(l.kept, c.Target)
			}
		}
	}
	e.loop.At(l.at.Add(occupiedEvery))
	return l.kept
}
