package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrNoMetric is the error of Metric where a page lacks the metric.
var ErrNoMetric = errors.New("no such metric")

// Metric reads a number from the page /metrics of a host at an address of its own, such
// as 127.0.0.1:9812. The name has the labels as the page does.
func (l *Lab) Metric(ctx context.Context, host, address, name string) (float64, error) {
	page, err := l.Exec(ctx, host, l.Hello(), "get", "http://"+address+"/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(page)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("%s: %w", name, ErrNoMetric)
}

// LinkBytes returns how many bytes have passed a link of a host, both directions.
func (l *Lab) LinkBytes(ctx context.Context, host, link string) (uint64, error) {
	out, err := l.Exec(ctx, host, "ip", "-json", "-statistics", "link", "show", "dev", link)
	if err != nil {
		return 0, err
	}
	return linkBytes(out)
}

// linkBytes reads the bytes of one link out of "ip -json -statistics link".
func linkBytes(data []byte) (uint64, error) {
	var list []struct {
		Stats64 struct{ RX, TX struct{ Bytes uint64 } }
	}
	if err := json.Unmarshal(data, &list); err != nil || len(list) != 1 {
		return 0, fmt.Errorf("statistics of a link: %d links, %w", len(list), err)
	}
	return list[0].Stats64.RX.Bytes + list[0].Stats64.TX.Bytes, nil
}
