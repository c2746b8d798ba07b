package layertest

import (
	"slices"
	"testing"
)

func TestImpure(t *testing.T) {
	deps := []string{
		"net", "net/netip", "os", "go4.org/netipx", "internal/syscall/unix", "vendor/golang.org/x/sys/cpu", "net/http/internal",
		"k8s.io/api/core/v1", "net/http", "os/exec", "golang.org/x/sys/unix", "sigs.k8s.io/knftables",
		"github.com/cilium/ebpf/link", "github.com/mdlayher/arp", "github.com/osrg/gobgp/v3/pkg/server",
	}
	if got := impure(deps); !slices.Equal(got, deps[7:]) {
		t.Errorf("got %v, want %v", got, deps[7:])
	}
}
