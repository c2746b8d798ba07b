package lab

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Progress prints the steps of a long run, each with the seconds since the
// start, and a line about what is still going on when nothing else was said
// for some time.
type Progress struct {
	mu      sync.Mutex
	out     io.Writer
	begin   time.Time
	last    time.Time
	current []*Step
	quit    chan struct{}
}

// Step is one piece of work in progress.
type Step struct {
	p     *Progress
	name  string
	begin time.Time
	state string
	cpu   time.Duration
}

const heartbeat = 10 * time.Second

// NewProgress prints to out until Close.
func NewProgress(out io.Writer) *Progress {
	p := &Progress{out: out, begin: time.Now(), last: time.Now(), quit: make(chan struct{})}
	go p.beat()
	return p
}

// Close ends the heartbeat.
func (p *Progress) Close() { close(p.quit) }

// Say prints one line.
func (p *Progress) Say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.say(fmt.Sprintf(format, args...))
}

func (p *Progress) say(line string) {
	p.last = time.Now()
	fmt.Fprintf(p.out, "[%6.1fs] %s\n", time.Since(p.begin).Seconds(), line)
}

// Begin announces a step; the caller ends it with Done.
func (p *Progress) Begin(format string, args ...any) *Step {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &Step{p: p, name: fmt.Sprintf(format, args...), begin: time.Now()}
	p.current = append(p.current, s)
	p.say(s.name)
	return s
}

// Waiting sets what the heartbeat tells about the step.
func (s *Step) Waiting(format string, args ...any) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.state = fmt.Sprintf(format, args...)
}

// Used adds CPU time that the step took, which Done prints.
func (s *Step) Used(cpu time.Duration) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.cpu += cpu
}

// Done ends the step, and says so if it took long enough to be of interest or
// failed. It returns err, so that a function can end with it.
func (s *Step) Done(err error) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.current = slices.DeleteFunc(s.p.current, func(o *Step) bool { return o == s })
	took := time.Since(s.begin)
	switch {
	case err != nil:
		s.p.say(fmt.Sprintf("%s: failed after %.1f s", s.name, took.Seconds()))
	case took > time.Second:
		s.p.say(fmt.Sprintf("%s: done in %.1f s%s", s.name, took.Seconds(), s.used()))
	}
	return err
}

// used is the CPU time for the line that Done prints, if there is any.
func (s *Step) used() string {
	if s.cpu == 0 {
		return ""
	}
	return fmt.Sprintf(", %.0f s of CPU", s.cpu.Seconds())
}

func (p *Progress) beat() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-p.quit:
			return
		case <-ticker.C:
			p.remind()
		}
	}
}

func (p *Progress) remind() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.current) == 0 || time.Since(p.last) < heartbeat {
		return
	}
	lines := make([]string, len(p.current))
	for i, s := range p.current {
		lines[i] = fmt.Sprintf("%s (%.0f s)", s.name, time.Since(s.begin).Seconds())
		if s.state != "" {
			lines[i] += ": " + s.state
		}
	}
	p.say("still: " + strings.Join(lines, "; "))
}
