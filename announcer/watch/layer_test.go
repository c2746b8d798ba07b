package watch_test

import (
	"testing"

	"github.com/fairlead/fairlead/internal/test/layertest"
)

func TestPure(t *testing.T) { layertest.Pure(t) }

func TestMonotonic(t *testing.T) { layertest.Monotonic(t, nil) }
