// Package plot draws line charts as SVG: axes with even or logarithmic scales,
// and series of points. The same Chart gives the same bytes.
package plot

import (
	"bytes"
	"encoding/xml"
	"fmt"
)

// Chart is what to draw. Points that a logarithmic axis cannot show are left
// out.
type Chart struct {
	Title  string
	X, Y   Axis
	Series []Series
}

// Axis is one direction of a Chart. It reaches from the smallest value of the
// series to the greatest; Low and High make it reach further.
type Axis struct {
	Label     string
	Log       bool                 // logarithmic: values from 0 down are not shown
	Low, High *float64             // values that it shows in any case
	Format    func(float64) string // of a value at the axis; nil: as short as possible
}

// Series is one line, and a dot at each point unless Bare. The colours follow
// each other in the order of the series; series with the same Colour share one.
type Series struct {
	Name   string
	Points []Point
	Colour int // counted from 1; 0: that of its place among the series
	Dashed bool
	Bare   bool // no dots
	Steps  bool // a value holds until the next one
}

// Point is one value.
type Point struct{ X, Y float64 }

// The picture's measures, in pixels.
const (
	width, height            = 760, 420
	left, right, top, bottom = 78, 24, 44, 52
	legendLine               = 18
)

var colours = []string{"#1f6feb", "#d1570b", "#1a7f37", "#8250df", "#9a6700", "#cf222e"}

// SVG draws the chart.
func (c Chart) SVG() []byte {
	x, y := c.X.scale(c.values(func(p Point) float64 { return p.X })), c.Y.scale(c.values(func(p Point) float64 { return p.Y }))
	x.from, x.to = left, width-right
	y.from, y.to = height-bottom, top
	d := &drawing{}
	tall := height + legendLine*((len(c.Series)+1)/2)
	d.line(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="12">`, width, tall, width, tall)
	d.line(`<rect width="100%%" height="100%%" fill="#ffffff"/>`)
	d.text(left, 24, "start", `font-size="15" font-weight="600"`, c.Title)
	d.axes(c, x, y)
	for i, s := range c.Series {
		d.series(s, s.colour(i), x, y)
		d.legend(s, s.colour(i), i)
	}
	d.line(`</svg>`)
	return d.Bytes()
}

func (c Chart) values(of func(Point) float64) []float64 {
	var all []float64
	for _, s := range c.Series {
		for _, p := range s.Points {
			all = append(all, of(p))
		}
	}
	return all
}

func (s Series) colour(place int) string {
	if s.Colour > 0 {
		place = s.Colour - 1
	}
	return colours[place%len(colours)]
}

// drawing is an SVG that is being written.
type drawing struct{ bytes.Buffer }

func (d *drawing) line(format string, args ...any) { fmt.Fprintf(d, format+"\n", args...) }

func (d *drawing) text(x, y float64, anchor, style, text string) {
	fmt.Fprintf(d, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="#1f2328" %s>`, x, y, anchor, style)
	_ = xml.EscapeText(d, []byte(text)) // a buffer takes all
	d.line(`</text>`)
}

// axes draws the grid, the values beside it and what they are.
func (d *drawing) axes(c Chart, x, y scale) {
	for _, v := range x.ticks() {
		at := x.at(v)
		d.line(`<path d="M%.1f %dV%d" stroke="#d8dee4"/>`, at, top, height-bottom)
		d.text(at, height-bottom+18, "middle", "", c.X.format(v))
	}
	for _, v := range y.ticks() {
		at := y.at(v)
		d.line(`<path d="M%d %.1fH%d" stroke="#d8dee4"/>`, left, at, width-right)
		d.text(left-8, at+4, "end", "", c.Y.format(v))
	}
	d.line(`<path d="M%d %dV%dH%d" fill="none" stroke="#57606a"/>`, left, top, height-bottom, width-right)
	d.text((left+width-right)/2, height-12, "middle", "", c.X.Label)
	middle := float64(top+height-bottom) / 2
	d.text(18, middle, "middle", fmt.Sprintf(`transform="rotate(-90 18 %.1f)"`, middle), c.Y.Label)
}

func (d *drawing) series(s Series, colour string, x, y scale) {
	var path bytes.Buffer
	begun, last := false, 0.0
	var dots []Point
	for _, p := range s.Points {
		if !x.shows(p.X) || !y.shows(p.Y) {
			continue
		}
		at := Point{x.at(p.X), y.at(p.Y)}
		switch {
		case !begun:
			fmt.Fprintf(&path, "M%.1f %.1f", at.X, at.Y)
		case s.Steps:
			fmt.Fprintf(&path, "L%.1f %.1fL%.1f %.1f", at.X, last, at.X, at.Y)
		default:
			fmt.Fprintf(&path, "L%.1f %.1f", at.X, at.Y)
		}
		begun, last, dots = true, at.Y, append(dots, at)
	}
	if !begun {
		return
	}
	d.line(`<path d="%s" fill="none" stroke="%s" stroke-width="2"%s/>`, path.String(), colour, s.dash())
	if s.Bare {
		return
	}
	for _, p := range dots {
		d.line(`<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`, p.X, p.Y, colour)
	}
}

func (s Series) dash() string {
	if s.Dashed {
		return ` stroke-dasharray="7 4"`
	}
	return ""
}

// legend names the series, two on a line, below the chart.
func (d *drawing) legend(s Series, colour string, i int) {
	x, y := float64(left+(i%2)*(width-left-right)/2), float64(height+4+legendLine*(i/2))
	d.line(`<path d="M%.1f %.1fh28" stroke="%s" stroke-width="2"%s/>`, x, y-4, colour, s.dash())
	d.text(x+36, y, "start", "", s.Name)
}
