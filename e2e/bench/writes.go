package bench

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// controllerWrites adds up the API writes of all controllers by their metrics,
// but those of the Lease.
func controllerWrites(ctx context.Context, client kubernetes.Interface, namespace string) (float64, error) {
	pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=controller"})
	if err != nil {
		return 0, err
	}
	var sum float64
	for _, p := range pods.Items {
		page, err := client.CoreV1().Pods(namespace).ProxyGet("http", p.Name, "9810", "/metrics", nil).DoRaw(ctx)
		if err != nil {
			return 0, fmt.Errorf("metrics of %s: %w", p.Name, err)
		}
		n, err := writesIn(string(page))
		if err != nil {
			return 0, fmt.Errorf("metrics of %s: %w", p.Name, err)
		}
		sum += n
	}
	return sum, nil
}

func writesIn(page string) (float64, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		return 0, err
	}
	var sum float64
	for _, m := range families["fairlead_controller_api_writes_total"].GetMetric() {
		lease := false
		for _, l := range m.GetLabel() {
			lease = lease || l.GetValue() == "leases"
		}
		if !lease {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum, nil
}

// quiet waits until the controllers have written nothing for two seconds, Events
// included, and returns what they wrote in all.
func (a Assign) quiet(ctx context.Context) (float64, error) {
	ticker := time.NewTicker(2 * time.Second)
	defer ticker.Stop()
	last := -1.0
	for {
		n, err := a.Writes(ctx)
		if err != nil || n == last {
			return n, err
		}
		last = n
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return n, ctx.Err()
		}
	}
}
