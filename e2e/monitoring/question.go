package monitoring

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Question is what a panel or an alert asks.
type Question struct {
	At   string // file and panel, or alert
	Expr string
}

// Dashboards lists what the panels in a folder ask. window takes the place of the
// one that Grafana would choose by its scrape interval.
func Dashboards(dir, window string) ([]Question, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no dashboards in %s: %w", dir, err)
	}
	var out []Question
	for _, file := range files {
		var d struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		data, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(data, &d)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				at := strings.TrimSuffix(filepath.Base(file), ".json") + ": " + p.Title
				out = append(out, Question{at, strings.ReplaceAll(q.Expr, "$__rate_interval", window)})
			}
		}
	}
	return out, nil
}

// Alerts lists what the alerts of a file ask.
func Alerts(file string) ([]Question, error) {
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	data, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(data, &rules)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var out []Question
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			out = append(out, Question{r.Alert, r.Expr})
		}
	}
	return out, nil
}

var selector = regexp.MustCompile(`fairlead_[a-z0-9_]+(\{[^}]*\})?`)

// Selectors lists the series that a question is about: an alert that does not fire
// has no answer, but they have to be there.
func (q Question) Selectors() []string {
	found := selector.FindAllString(q.Expr, -1)
	slices.Sort(found)
	return slices.Compact(found)
}

var row = regexp.MustCompile("(?m)^\\| `(fairlead_[a-z0-9_]+)` \\| ([a-z]+) \\|")

// Documented lists the metrics of docs/metrics.md and their types.
func Documented(page string) map[string]string {
	out := map[string]string{}
	for _, r := range row.FindAllStringSubmatch(page, -1) {
		out[r[1]] = r[2]
	}
	return out
}
