package layertest

import (
	"reflect"
	"slices"
	"testing"
)

func TestLosesClock(t *testing.T) {
	const source = `package p
import "time"
var start = time.Now()
var epoch = time.Unix(0, 0)
func (s *store[T]) heard() time.Duration { return time.Since(start).Truncate(time.Second) }
func age(text string) time.Duration {
	at, _ := time.Parse(time.RFC3339, text)
	return time.Since(at)
}
func number() int64 { return func() int64 { return time.Now().UnixNano() }() }
func fine(at time.Time) bool { return time.Since(at) > time.Minute && at.Before(start) && url.Parse("") == nil }
`
	found := map[string][]string{}
	if err := losesClock("p.go", source, found); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"var": {"Unix at p.go:4:13"}, "store.heard": {"Truncate at p.go:5:51"},
		"age": {"time.Parse at p.go:7:11"}, "number": {"UnixNano at p.go:10:52"},
	}
	if !reflect.DeepEqual(found, want) {
		t.Errorf("found %v, want %v", found, want)
	}
}

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
