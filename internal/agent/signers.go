package agent

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/internal/keyring"
	"github.com/fairlead/fairlead/internal/nodestate"
	"github.com/fairlead/fairlead/internal/reconcile"
)

// How often the API is asked for the key of a node whose reports it does not fit: the
// first time at once, then after a pause that doubles while the key is still the same.
const (
	askKeyFirst = 2 * time.Second
	askKeyLast  = 5 * time.Minute
	askKeyPause = 200 * time.Millisecond // between two nodes
)

// signers is which keys the gossip believes the reports of nodes by: those of the Secret
// and, of a node whose reports they do not fit, that of its NodeState. The second is for an
// agent that lost its key, or that is of version 0.1 again, whose controller does not keep
// the Secret's.
type signers struct {
	states nodestate.Client
	use    func(keyring.Signers)
	loop   *reconcile.Loop
	log    *slog.Logger

	// order keeps what is used in the order of what is told. It is held while use is called;
	// mu is not, as the gossip calls Doubt with a lock of its own.
	order   sync.Mutex
	mu      sync.Mutex
	told    keyring.Signers
	doubted map[string]bool  // to be asked for
	asked   map[string]asked // by node
}

// asked is when a node's key may be asked for again.
type asked struct {
	next  time.Time
	pause time.Duration
}

func newSigners(cfg *Config, use func(keyring.Signers)) *signers {
	s := &signers{use: use, loop: reconcile.New("keys of nodes", cfg.Log), log: cfg.Log, doubted: map[string]bool{}, asked: map[string]asked{}}
	s.loop.Resync, s.loop.Coalesce = 0, askKeyPause
	if cfg.Clients != nil {
		s.states = cfg.Clients.NodeStates
	}
	return s
}

// Set takes in all keys.
func (s *signers) Set(all keyring.Signers) {
	s.order.Lock()
	defer s.order.Unlock()
	s.mu.Lock()
	s.told = all
	s.mu.Unlock()
	s.use(all)
}

// Doubt notes that the key of a node does not fit its reports.
func (s *signers) Doubt(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Reports can be forged as often as one likes. The API is not asked as often.
	if s.doubted[node] || time.Now().Before(s.asked[node].next) {
		return
	}
	s.doubted[node] = true
	s.loop.Wake()
}

// step asks for the key of one node.
func (s *signers) step(ctx context.Context) error {
	node, more := s.next()
	if node == "" || s.states == nil {
		return nil
	}
	if more {
		defer s.loop.Wake()
	}
	st, err := s.states.Get(ctx, node, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		s.learn(node, "") // an agent that has just started
	case err != nil:
		return err
	default:
		s.learn(node, st.Status.ReportKey)
	}
	return nil
}

// next returns a node to ask for, and whether there are more.
func (s *signers) next() (node string, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for node = range s.doubted {
		break
	}
	delete(s.doubted, node)
	at := s.asked[node]
	at.pause = min(max(2*at.pause, askKeyFirst), askKeyLast)
	at.next = time.Now().Add(at.pause)
	s.asked[node] = at
	return node, len(s.doubted) > 0
}

// learn takes in the key that the API has of a node.
func (s *signers) learn(node, key string) {
	s.order.Lock()
	defer s.order.Unlock()
	if all := s.changed(node, key); all != nil {
		s.log.Warn("the key of a node has changed", "node", node, "signs", all[node] != nil)
		s.use(all)
	}
}

// changed returns all keys with the one of a node, or nil if it is the same as before:
// somebody else speaks for the node, or the API does not have its new key yet.
func (s *signers) changed(node, key string) keyring.Signers {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := maps.Clone(s.told)
	if all == nil {
		return nil
	}
	all.Set(node, key)
	if all[node].Equal(s.told[node]) {
		return nil
	}
	delete(s.asked, node)
	s.told = all
	return all
}
