package traffic

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestMeter(t *testing.T) {
	vips := map[netip.Addr]bool{netip.MustParseAddr("192.0.2.200"): true}
	began := time.Unix(1000, 0)
	flow := func(port uint16, to string, bytes uint64) Flow {
		return Flow{Protocol: 6, From: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), port), To: netip.MustParseAddrPort(to), Bytes: bytes}
	}
	const vip, other = "192.0.2.200:80", "10.96.0.1:443"
	var m Meter
	for _, step := range []struct {
		what  string
		after time.Duration
		flows []Flow
		want  string
	}{
		{"what is there at first is not new", 0, []Flow{flow(1, vip, 500), flow(2, other, 9)}, "0 connections, 0 bytes, 1 open"},
		{"one goes on, one is new", 1, []Flow{flow(1, vip, 600), flow(3, vip, 50)}, "1 connections, 150 bytes, 2 open"},
		{"the same ports once more", 2, []Flow{flow(1, vip, 600), flow(3, vip, 20)}, "2 connections, 170 bytes, 2 open"},
		{"all ended", 3, nil, "2 connections, 170 bytes, 0 open"},
		{"asked again after a long time", 100, []Flow{flow(4, vip, 70)}, "0 connections, 0 bytes, 1 open"},
	} {
		m.Look(began.Add(step.after*time.Second), step.flows, vips)
		r := m.Report()
		if len(r.VIPs) != 1 || r.VIPs[0].Address != "192.0.2.200" {
			t.Fatalf("%s: %+v", step.what, r)
		}
		if got := fmt.Sprintf("%d connections, %d bytes, %d open", r.VIPs[0].Connections, r.VIPs[0].Bytes, r.VIPs[0].Open); got != step.want {
			t.Errorf("%s: %s, want %s", step.what, got, step.want)
		}
	}
	if want := began.Add(100 * time.Second); !m.Report().Since.Equal(want) {
		t.Errorf("counted since %s, want %s", m.Report().Since, want)
	}
}
