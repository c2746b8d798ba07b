//go:build linux

package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"

	"github.com/fairlead/fairlead/internal/agent"
	"github.com/fairlead/fairlead/internal/direct/echo"
	"github.com/fairlead/fairlead/internal/direct/far"
	"github.com/fairlead/fairlead/proxy/director"
	"github.com/fairlead/fairlead/proxy/director/program"
	"github.com/fairlead/fairlead/proxy/ebpf"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// directorPins is where the director's program is kept beside the folder of --bpf-dir.
func directorPins(bpfDir string) string { return cmp.Or(bpfDir, ebpf.DefaultPins) + "-director" }

// directors says how an agent gets its director, if it is to have one.
func directors(when, bpfDir string, mark uint32, log *slog.Logger) (agent.Direct, error) {
	pins := directorPins(bpfDir)
	d := agent.Direct{Remove: func() (int, error) { return program.Remove(pins) }}
	switch when {
	case "off":
		return d, nil
	case "auto":
	default:
		return d, fmt.Errorf("--director: %q is neither auto nor off", when)
	}
	d.Open = func(seed director.Seed) (agent.Director, error) {
		m := nftables.MarksBeside(mark)
		return program.Open(program.Options{Seed: seed, Marks: program.Marks(m), Pins: pins, Log: log})
	}
	d.Far = func(changed func()) agent.Far { return far.New(log, changed) }
	d.Echo = func(changed func()) agent.Echo { return echo.New(log, changed) }
	d.Pinned = func() bool {
		_, err := os.Stat(pins)
		return err == nil
	}
	return d, nil
}
