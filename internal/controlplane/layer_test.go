package controlplane

import (
	"testing"

	"github.com/fairlead/fairlead/internal/test/layertest"
)

func TestLayer(t *testing.T) { layertest.Pure(t) }
