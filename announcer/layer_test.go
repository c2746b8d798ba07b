package announcer_test

import (
	"testing"

	"github.com/fairlead/fairlead/internal/test/layertest"
)

func TestPure(t *testing.T) { layertest.Pure(t) }

func TestMonotonic(t *testing.T) {
	layertest.Monotonic(t, map[string]string{"madeAt": "when the API server made an object, which all agents read alike"})
}
