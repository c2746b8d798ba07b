package announcer_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// TestDocs: docs/announcer.md tells every reason, the label and the time.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile("../docs/announcer.md")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{announcer.ExcludeLabel, fmt.Sprintf("**%v s**", announcer.LeaveAfter.Seconds())}
	for _, r := range []snapshot.Reason{announcer.NotOwner, announcer.NoEndpoint, announcer.NoCandidate, announcer.EngineNotReady, announcer.AddressConflict} {
		want = append(want, "`"+string(r)+"`")
	}
	for _, w := range want {
		if !strings.Contains(string(data), w) {
			t.Errorf("docs/announcer.md does not say %s", w)
		}
	}
}
