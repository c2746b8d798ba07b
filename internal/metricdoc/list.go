package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/announcer/members"
	"github.com/fairlead/fairlead/internal/agent"
	"github.com/fairlead/fairlead/internal/controller"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/record"
	"github.com/fairlead/fairlead/internal/server"
	"github.com/fairlead/fairlead/nodeport/health"
)

// Metric is one family of metrics.
type Metric struct {
	Name, Type, Help string
	Labels           []string // sorted
}

// Lists are the metrics of each process, sorted by name.
type Lists struct {
	Agent, Controller, Both []Metric
	// ControlPlane has those that the agent lacks, and Shared the others.
	ControlPlane, Shared []Metric
}

// All lists every metric of ours: it makes the parts of each process, which
// start nothing, and reads what they register.
func All() (Lists, error) {
	quiet := slog.New(slog.DiscardHandler)
	var ofAgent, ofController, ofControlPlane, both list
	if _, err := agent.New(agent.Config{Log: quiet, Metrics: &ofAgent}); err != nil {
		return Lists{}, err
	}
	agent.ControlPlaneMetrics(&ofControlPlane)
	for _, l := range []*list{&ofAgent, &ofControlPlane} {
		if _, err := members.New(members.Config{Log: quiet, Metrics: l, Keys: [][]byte{make([]byte, 32)}}); err != nil {
			return Lists{}, err
		}
	}
	health.NewProbes(nil, &ofAgent)
	controller.New(controller.Config{Log: quiet, Metrics: &ofController, Clients: &kube.Clients{}})
	record.CountWrites(&ofController)
	for _, c := range server.Collectors("") {
		both.MustRegister(c)
	}
	out := Lists{Agent: ofAgent.sorted(), Controller: ofController.sorted(), Both: both.sorted()}
	for _, m := range ofControlPlane.sorted() {
		if slices.ContainsFunc(out.Agent, func(a Metric) bool { return a.Name == m.Name }) {
			out.Shared = append(out.Shared, m)
		} else {
			out.ControlPlane = append(out.ControlPlane, m)
		}
	}
	return out, nil
}

// list is a Registerer that only takes note.
type list struct {
	metrics []Metric
	failed  []string // descriptions that could not be read
}

var _ prometheus.Registerer = (*list)(nil)

func (l *list) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		_ = l.Register(c)
	}
}

func (l *list) Unregister(prometheus.Collector) bool { return false }

func (l *list) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc)
	go func() {
		c.Describe(descs)
		close(descs)
	}()
	for d := range descs {
		m, err := parse(d.String())
		if err != nil {
			l.failed = append(l.failed, err.Error())
			continue
		}
		m.Type = typeOf(c, m.Name)
		if strings.HasPrefix(m.Name, "fairlead_") {
			l.metrics = append(l.metrics, m)
		}
	}
	return nil
}

func (l *list) sorted() []Metric {
	for _, f := range l.failed {
		l.metrics = append(l.metrics, Metric{Name: f}) // the page is wrong then, and says so
	}
	slices.SortFunc(l.metrics, func(a, b Metric) int { return cmp.Compare(a.Name, b.Name) })
	return l.metrics
}

// typeOf reads the type from that of the collector. One of our own has counters,
// whose names end in _total, and gauges.
func typeOf(c prometheus.Collector, name string) string {
	switch c.(type) {
	case prometheus.Gauge, *prometheus.GaugeVec:
		return "gauge"
	case prometheus.Counter, *prometheus.CounterVec:
		return "counter"
	case prometheus.Histogram, *prometheus.HistogramVec:
		return "histogram"
	}
	if strings.HasSuffix(name, "_total") {
		return "counter"
	}
	return "gauge"
}

// The library has no other way to read a description than the text that it prints.
var description = regexp.MustCompile(`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*")(?:, unit: "[^"]*")?, constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

func parse(text string) (Metric, error) {
	found := description.FindStringSubmatch(text)
	if found == nil {
		return Metric{}, fmt.Errorf("cannot read %s", text)
	}
	name, err := strconv.Unquote(found[1])
	if err != nil {
		return Metric{}, err
	}
	help, err := strconv.Unquote(found[2])
	if err != nil {
		return Metric{}, err
	}
	m := Metric{Name: name, Help: help}
	for _, label := range strings.Split(found[3]+","+found[4], ",") {
		if key, _, _ := strings.Cut(label, "="); key != "" {
			m.Labels = append(m.Labels, key)
		}
	}
	slices.Sort(m.Labels)
	return m, nil
}
