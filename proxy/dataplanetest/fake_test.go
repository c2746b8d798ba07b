package dataplanetest

import (
	"testing"

	"github.com/fairlead/fairlead/proxy"
)

func TestFake(t *testing.T) {
	kernels := map[*testing.T]*Kernel{}
	Run(t, func(t *testing.T) proxy.Dataplane {
		if kernels[t] == nil {
			kernels[t] = &Kernel{}
		}
		return &Fake{Kernel: kernels[t]}
	})
}
