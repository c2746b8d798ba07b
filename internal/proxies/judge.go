package proxies

import (
	"fmt"
	"time"
)

// How long a proxy counts as running after the last sign of it. One that restarts shows
// none for as long. Of one that leaves nothing else, its port is all that can be seen.
const (
	Grace        = 30 * time.Second
	GraceAnother = 5 * time.Minute
)

// Judge decides from one Facts after another. It knows by that whose objects somebody
// still writes. The zero Judge is ready for use, and not safe for concurrent use.
type Judge struct {
	seen map[Name]*memory
}

// memory is what the looks so far showed of one proxy.
type memory struct {
	objects map[Object]string // at the last look
	alive   time.Time         // the last sign of life; zero: none yet
	shown   bool              // a process, a port or the cluster showed it, and not its writing alone
}

// Recall makes name count as running at now. An agent that starts recalls who forwarded.
func (j *Judge) Recall(name Name, now time.Time) {
	m := j.of(name)
	m.alive, m.shown = now, true
}

func (j *Judge) of(name Name) *memory {
	if j.seen == nil {
		j.seen = map[Name]*memory{}
	}
	if j.seen[name] == nil {
		j.seen[name] = &memory{}
	}
	return j.seen[name]
}

// Look returns the proxies that f at now shows something of.
func (j *Judge) Look(f Facts, now time.Time) (out []Found) {
	claimed := false
	for _, p := range programs {
		if found, ok := j.look(p, f, now); ok {
			out = append(out, found)
			claimed = claimed || found.Certainty != Left
		}
	}
	if !claimed {
		if found, ok := j.another(f, now); ok {
			out = append(out, found)
		}
	}
	return out
}

// look returns what f shows of p; false if nothing.
func (j *Judge) look(p program, f Facts, now time.Time) (Found, bool) {
	m := j.of(p.name)
	first := m.objects == nil
	was := m.objects
	m.objects = map[Object]string{}
	if f.Denied[p.name] {
		return Found{}, false
	}
	out := Found{Proxy: p.name}
	written := false
	for _, o := range p.objects {
		print, there := f.Objects[o]
		if !there {
			continue
		}
		m.objects[o] = print
		out.Evidence = append(out.Evidence, o.String())
		// What comes or changes, somebody writes. What goes, somebody cleans up.
		written = written || !first && was[o] != print
	}
	life := p.life(f, len(out.Evidence) > 0)
	out.Evidence = append(out.Evidence, life...)
	out.Here = len(out.Evidence) > 0
	if why := f.Declared[p.name]; why != "" {
		life = append(life, why)
		out.Evidence = append(out.Evidence, why)
	}
	switch {
	case len(life) > 0:
		m.alive, m.shown = now, true
	case written:
		m.alive = now
	}
	recent := !m.alive.IsZero() && now.Sub(m.alive) < Grace
	switch {
	case len(out.Evidence) == 0:
		m.alive, m.shown = time.Time{}, false
		return out, false
	case len(life) > 0 || recent:
		out.Certainty = Runs
	case p.network || !m.alive.IsZero() && !m.shown:
		// It wrote while nothing else showed it, and may write again.
		out.Certainty = Unknown
	default:
		out.Certainty = Left
	}
	return out, true
}

// life returns what of the node shows that p runs, given whether its objects are there.
func (p program) life(f Facts, objects bool) (out []string) {
	for _, name := range p.processes {
		if f.Processes[name] {
			out = append(out, "process "+name)
		}
	}
	if !objects {
		return out // ports and hosts show nothing of what is not there
	}
	for _, name := range p.hosts {
		if f.Processes[name] {
			out = append(out, "process "+name)
		}
	}
	for _, port := range p.ports {
		if f.Listening[port] {
			out = append(out, fmt.Sprintf("port %d is in use", port))
		}
	}
	return out
}

// another returns a proxy that shows by its port alone.
func (j *Judge) another(f Facts, now time.Time) (Found, bool) {
	m := j.of(Another)
	out := Found{Proxy: Another, Certainty: Unknown, Here: true}
	switch {
	case f.Listening[healthPort]:
		m.alive = now
		out.Evidence = []string{fmt.Sprintf("port %d is in use", healthPort)}
	case !m.alive.IsZero() && now.Sub(m.alive) < GraceAnother:
		out.Evidence = []string{fmt.Sprintf("port %d was in use", healthPort)}
	default:
		return out, false
	}
	return out, true
}
