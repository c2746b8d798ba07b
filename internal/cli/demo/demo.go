// Package demo makes clusters of the stories that the commands are tested with, for people
// who look without a cluster.
package demo

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/cli/survey"
)

// Now is when every story is told.
var Now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// First is the name of the cluster that is shown first: it has something of everything.
const First = "who-announces"

// Cluster is one story at one moment. It implements ui.Source, and never changes.
type Cluster struct {
	Name  string
	About string // what the story shows
	read  survey.Objects
}

// Objects returns the objects of the cluster.
func (c *Cluster) Objects() *survey.Objects {
	o := c.read
	return &o
}

// Changed returns a channel that is never closed.
func (c *Cluster) Changed() <-chan struct{} { return nil }

// Refresh does nothing.
func (c *Cluster) Refresh(context.Context) {}

// Clusters reads the stories of files: base.yaml, and in each *.txtar the sections
// "cluster". One section is one moment; those after the first are named NAME-2 and so on.
// Stories about files, or about rights, have no cluster to show.
func Clusters(files fs.FS) ([]*Cluster, error) {
	base, err := fs.ReadFile(files, "base.yaml")
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	names, err := fs.Glob(files, "*.txtar")
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	var out []*Cluster
	for _, file := range names {
		text, err := fs.ReadFile(files, file)
		if err != nil {
			return nil, fmt.Errorf("demo: %w", err)
		}
		moments, err := story(strings.TrimSuffix(path.Base(file), ".txtar"), string(base), text)
		if err != nil {
			return nil, fmt.Errorf("demo: %s: %w", file, err)
		}
		out = append(out, moments...)
	}
	return out, nil
}

// story returns the moments of one story.
func story(name, base string, text []byte) (out []*Cluster, err error) {
	about, sections := split(text)
	var all Objects
	if err := all.Do(base); err != nil {
		return nil, err
	}
	for i, s := range sections {
		switch s.name {
		case "forbidden", "files":
			return nil, nil
		case "cluster":
			if err := all.Do(s.text); err != nil {
				return nil, err
			}
			if i+1 < len(sections) && sections[i+1].name == "cluster" {
				continue
			}
			c := &Cluster{Name: name, About: about, read: survey.Objects{Now: Now}}
			if n := len(out); n > 0 {
				c.Name = fmt.Sprintf("%s-%d", name, n+1)
			}
			for _, u := range all.All() {
				obj, err := survey.Typed(u)
				if err != nil {
					return nil, err
				}
				c.read.All = append(c.read.All, obj)
			}
			out = append(out, c)
		}
	}
	return out, nil
}

type part struct{ name, text string }

// split takes a story apart: "-- name --" on a line of its own begins a section.
func split(text []byte) (about string, out []part) {
	for line := range bytes.Lines(text) {
		l := string(line)
		name, opened := strings.CutPrefix(strings.TrimSpace(l), "-- ")
		name, closed := strings.CutSuffix(name, " --")
		switch {
		case opened && closed:
			out = append(out, part{name: name})
		case len(out) == 0:
			about += strings.TrimPrefix(strings.TrimPrefix(l, "#"), " ")
		default:
			out[len(out)-1].text += l
		}
	}
	return strings.TrimSpace(about), out
}
