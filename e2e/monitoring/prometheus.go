// Package monitoring asks a real Prometheus, which reads the agents and the
// controller in the lab, everything that the chart's dashboards and alerts ask.
package monitoring

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"

	"github.com/fairlead/fairlead/e2e/lab"
)

// Prometheus is the API of one.
type Prometheus struct {
	URL  string
	http http.Client
}

// New is the lab's Prometheus.
func New() *Prometheus {
	return &Prometheus{URL: lab.PrometheusURL, http: http.Client{Transport: &http.Transport{}}} // no proxy
}

// Sample is one series of an answer.
type Sample struct {
	Metric map[string]string
	Value  float64
}

// Query asks for the value of expr now. Series without a number are left out:
// there is nothing to be seen of them on a dashboard.
func (p *Prometheus) Query(ctx context.Context, expr string) ([]Sample, error) {
	var found struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	if err := p.get(ctx, "/api/v1/query?query="+url.QueryEscape(expr), &found); err != nil {
		return nil, fmt.Errorf("%s: %w", expr, err)
	}
	var out []Sample
	for _, r := range found.Result {
		text, _ := r.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: the value %q: %w", expr, text, err)
		}
		if !math.IsNaN(value) {
			out = append(out, Sample{r.Metric, value})
		}
	}
	return out, nil
}

// Families lists the metrics that were read, and their types.
func (p *Prometheus) Families(ctx context.Context) (map[string]string, error) {
	var found map[string][]struct{ Type string }
	if err := p.get(ctx, "/api/v1/metadata", &found); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for name, all := range found {
		if len(all) > 0 {
			out[name] = all[0].Type
		}
	}
	return out, nil
}

func (p *Prometheus) get(ctx context.Context, path string, data any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+path, nil)
	if err != nil {
		return err
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	if answer.Status != "success" {
		return errors.New(answer.Error)
	}
	return json.Unmarshal(answer.Data, data)
}
