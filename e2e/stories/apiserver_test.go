package stories

import (
	"context"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/lab"
)

// stopAPI stops the API server; the story's end starts it if the story did not.
func stopAPI(t *testing.T) {
	t.Helper()
	l := cluster(t)
	undo(t, func(ctx context.Context) error {
		if l.APIServerRuns() {
			return nil
		}
		return l.StartAPIServer(ctx)
	})
	if err := l.StopAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func startAPI(t *testing.T) {
	t.Helper()
	if err := cluster(t).StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// For a minute no API server answers, and not one request fails, on no path;
// when it is back, changes apply.
func TestAPIServerAwayForAMinuteNotOneRequestFails(t *testing.T) {
	s := web(t)
	w := watch(t, s)
	stopAPI(t)
	time.Sleep(time.Minute) // that long it is away
	startAPI(t)
	wantChangesApply(t)
	w.wantUnharmed(t)
}

// wantChangesApply makes a Service for the pods of the examples and waits until
// it answers.
func wantChangesApply(t *testing.T) {
	t.Helper()
	began := time.Now()
	applyFile(t, "later.yaml")
	answersTo(t, lab.Client, "http://"+externalIP(t, "later")+"/", 6)
	t.Logf("a new Service answers after %s", time.Since(began).Round(time.Second))
}
