package routed

import (
	"testing"
	"time"
)

func TestLastSeen(t *testing.T) {
	looks := `100.000 192.0.2.1 nexthop via 198.51.100.1 dev eth0 nexthop via 198.51.100.11 dev eth0
100.250 192.0.2.1 nexthop via 198.51.100.1 dev eth0 nexthop via 198.51.100.11 dev eth0
100.500 192.0.2.1 via 198.51.100.11 dev eth0
100.750 192.0.2.1 via 198.51.100.11 dev eth0
`
	if got, err := lastSeen(looks, "198.51.100.1", time.Unix(100, 0)); err != nil || got.Round(time.Millisecond) != 500*time.Millisecond {
		t.Errorf("gone after %s, %v", got, err)
	}
	if got, err := lastSeen(looks, "198.51.100.11", time.Unix(100, 0)); err == nil {
		t.Errorf("what stays is gone after %s", got)
	}
	if _, err := lastSeen(looks, "198.51.100.12", time.Unix(100, 0)); err == nil {
		t.Error("what never was has gone")
	}
}
