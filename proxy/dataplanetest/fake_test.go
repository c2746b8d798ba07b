package dataplanetest

import (
	"syscall"
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

// fakeVictim is a Fake with one step, at which it fails or is killed.
type fakeVictim struct{ *Fake }

func (v fakeVictim) Sync(t *testing.T, table *proxy.Table, f Fault) Outcome {
	v.Fail = func(string) error {
		if f.Errno == 0 {
			return nil
		}
		return f.Errno
	}
	if f.Kill {
		return Outcome{Killed: true}
	}
	out := Outcome{Steps: []string{"sync"}}
	if _, err := v.Fake.Sync(t.Context(), table); err != nil {
		out.Err = err.Error()
	}
	return out
}

func (v fakeVictim) Open(*testing.T) Open { return Open{} }

func TestFakeFaults(t *testing.T) {
	kernel := &Kernel{}
	before, after := Example()
	steps := []string{"sync"}
	Faults(t, &Ground{
		Victim: func(*testing.T) Victim { return fakeVictim{&Fake{Kernel: kernel}} },
		New:    func(*testing.T) proxy.Dataplane { return &Fake{Kernel: kernel} },
		Before: before, After: after, First: steps, Change: steps, Adopt: steps,
		Faults: func(step string) []Fault { return []Fault{{Step: step, Errno: syscall.ENOSPC}} },
	})
}
