package lab

import (
	"maps"
	"testing"
)

func TestFRRSessions(t *testing.T) {
	got, err := frrSessions([]byte(`{"ipv4Unicast":{"routerId":"192.0.2.254","peers":{"192.0.2.1":{"state":"Established"}}},"ipv6Unicast":{"peers":{"2001:db8::1":{"state":"Active"}}}}`))
	if want := map[string]string{"192.0.2.1": Established, "2001:db8::1": "Active"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("sessions = %v, %v", got, err)
	}
	if _, err := frrSessions([]byte("% BGP instance not found")); err == nil {
		t.Error("no objection to a router without BGP")
	}
}

func TestBIRDSessions(t *testing.T) {
	got := birdSessions(`BIRD 2.0.12 ready.
Name       Proto      Table      State  Since         Info
device1    Device     ---        up     10:20:00.100
node1_ipv4 BGP        ---        up     10:20:01.200  Established
node1_ipv6 BGP        ---        start  10:20:01.200  Active        Socket: Connection closed
`)
	want := map[string]string{"node1_ipv4": Established, "node1_ipv6": "Active Socket: Connection closed"}
	if !maps.Equal(got, want) {
		t.Errorf("sessions = %v", got)
	}
}
