package bench

import "testing"

func TestWritesIn(t *testing.T) {
	n, err := writesIn(`# HELP fairlead_controller_api_writes_total Writes.
# TYPE fairlead_controller_api_writes_total counter
fairlead_controller_api_writes_total{resource="leases",verb="update"} 90
fairlead_controller_api_writes_total{resource="services/status",verb="update"} 7
fairlead_controller_api_writes_total{resource="events",verb="create"} 5
`)
	if err != nil || n != 12 {
		t.Errorf("%v, %v", n, err)
	}
}
