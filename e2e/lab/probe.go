package lab

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/fairlead/fairlead/e2e/probe"
)

// Probe makes requests to target from a host; args are flags of "hello probe".
func (l *Lab) Probe(ctx context.Context, host, target string, args ...string) (probe.Report, error) {
	command := append([]string{l.binary("hello"), "probe"}, append(args, target)...)
	out, err := l.Exec(ctx, host, command...)
	return readReport(out, err)
}

// ProbeFromPod does the same in a pod of HelloImage in the namespace default.
func (l *Lab) ProbeFromPod(ctx context.Context, pod, target string, args ...string) (probe.Report, error) {
	command := append([]string{"exec", pod, "--", "/hello", "probe"}, append(args, target)...)
	out, err := l.Kubectl(ctx, command...)
	return readReport(out, err)
}

func readReport(out []byte, err error) (probe.Report, error) {
	var r probe.Report
	if err != nil {
		return r, fmt.Errorf("probe: %w", err)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("probe: %w: %q", err, out)
	}
	return r, nil
}

// Hello is the path, on every host, of the program in HelloImage.
func (l *Lab) Hello() string { return l.binary("hello") }
