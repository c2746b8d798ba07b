package netlink

import (
	"context"
	"testing"

	"github.com/fairlead/fairlead/internal/test/nfttest"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
)

// Dump implements dataplanetest.Dumper.
func (e *Engine) Dump(ctx context.Context) (*proxy.Table, error) {
	kernel, err := e.Read(ctx)
	return nfttest.Table(kernel), err
}

// space is a network namespace with engines in it.
type space struct{ nstest.Space }

func newSpace(t testing.TB, name string) space {
	t.Helper()
	return space{nstest.New(t, name)}
}

// engine makes an Engine that acts in the namespace.
func (s space) engine(t testing.TB) *Engine {
	e := New(Options{Netns: int(s.Handle)})
	t.Cleanup(e.Close)
	return e
}
