package netlink

import (
	"testing"

	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
)

func TestDataplane(t *testing.T) {
	t.Parallel()
	nstest.NeedRoot(t)
	spaces := map[*testing.T]space{}
	dataplanetest.Run(t, func(t *testing.T) proxy.Dataplane {
		s, ok := spaces[t]
		if !ok {
			s = newSpace(t, "suite")
			spaces[t] = s
		}
		return s.engine(t)
	})
}
