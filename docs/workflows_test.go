package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	action   = regexp.MustCompile(`(?m)^\s*(?:- )?uses: (.*)$`)
	byCommit = regexp.MustCompile(`^[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*$`)
	runs     = regexp.MustCompile(`go (?:run|install) [^-\s]\S*`)
	aVersion = regexp.MustCompile(`@v\d+\.\d+\.\d+$`)
)

// TestWorkflowsArePinned: what somebody else writes to an action's tag, or to a module, is
// not run, and a workflow may write nothing unless a job says so.
func TestWorkflowsArePinned(t *testing.T) {
	files, err := filepath.Glob("../.github/workflows/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d workflows, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		for _, m := range action.FindAllStringSubmatch(text, -1) {
			if !byCommit.MatchString(m[1]) {
				t.Errorf("%s uses %s, which is not a commit with its version", file, m[1])
			}
		}
		for _, run := range runs.FindAllString(text, -1) {
			if !aVersion.MatchString(run) {
				t.Errorf("%s: %s has no version", file, run)
			}
		}
		if !strings.Contains(text, "\npermissions: {contents: read}\n") {
			t.Errorf("%s may write more than it has to", file)
		}
	}
}

// TestReleaseIsAttested: a release attests its files, its image and its chart, by the
// digests that were pushed. Every change is looked at by govulncheck and by all fuzz
// targets.
func TestReleaseIsAttested(t *testing.T) {
	for file, wants := range map[string][]string{
		"release": {
			"subject-path: dist/*", "subject-name: ghcr.io/fairlead/fairlead\n", "subject-digest: ${{ steps.images.outputs.image }}",
			"subject-name: ghcr.io/fairlead/charts/fairlead\n", "subject-digest: ${{ steps.images.outputs.chart }}", "attestations: write",
		},
		"ci": {"govulncheck@v", "make test WHAT=fuzz FOR=2m"},
	} {
		data, err := os.ReadFile("../.github/workflows/" + file + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(data), want) {
				t.Errorf("%s.yaml has no %q", file, want)
			}
		}
	}
}
