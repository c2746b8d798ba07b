package sample

import (
	"encoding/json"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/internal/traffic"
)

// However often it is asked, the table is read once a second, and less often if
// that takes long.
func TestHandlerReadsSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads, takes := 0, time.Duration(0)
		h := &Handler{
			Node: "n1", VIPs: func() map[netip.Addr]bool { return nil }, Counts: func() bool { return true },
			Flows: func(func(traffic.Flow)) error {
				reads++
				time.Sleep(takes)
				return nil
			},
		}
		ask := func(long time.Duration) {
			for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, nil)
				var r traffic.Report
				if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || r.Node != "n1" || !r.Counts || r.VIPs == nil {
					t.Fatalf("%v: %s", err, w.Body)
				}
			}
		}
		ask(10 * time.Second)
		if reads != 10 {
			t.Errorf("%d reads in 10 s", reads)
		}
		time.Sleep(time.Second)
		reads, takes = 0, 200*time.Millisecond
		ask(11 * time.Second)
		if reads != 5 {
			t.Errorf("%d reads in 11 s that take 0.2 s each", reads)
		}
	})
}
