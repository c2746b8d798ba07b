package members

import (
	"testing"

	"github.com/fairlead/fairlead/internal/test/layertest"
)

func TestMonotonic(t *testing.T) {
	layertest.Monotonic(t, map[string]string{"lines.Write": "a line of the log that is due once a minute"})
}
