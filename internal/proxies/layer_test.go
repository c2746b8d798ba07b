package proxies

import (
	"testing"

	"github.com/fairlead/fairlead/internal/test/layertest"
)

func TestPure(t *testing.T) { layertest.Pure(t) }
