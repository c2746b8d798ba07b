package netlink

import (
	"testing"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

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
