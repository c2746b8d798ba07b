package snapshot

import "github.com/fairlead/fairlead/internal/diff"

// Picked follows which Services of successive Snapshots Pick picks. Of the first Snapshot it
// looks at every Service, of each one after that at those that changed. Few Services ask for
// most features, and to look at all of a large cluster's takes milliseconds. It is not safe
// for concurrent use.
type Picked struct {
	Pick func(*Service) bool

	last   *Snapshot // nil before the first Of
	list   []*Service
	looked int // how many Services it looked at
}

// Of returns the Services of s that Pick picks, sorted, nil for none. The list must not be
// changed. It is the last one if that is still right.
func (p *Picked) Of(s *Snapshot) []*Service {
	if p.last == nil {
		for _, svc := range s.Services {
			p.list = p.appendIf(p.list, svc)
		}
		p.last = s
		return p.list
	}
	var gone, come []*Service
	for _, ref := range Diff(p.last, s).Services {
		gone, come = p.appendIf(gone, p.last.Service(ref)), p.appendIf(come, s.Service(ref))
	}
	p.list = diff.Apply(p.list, gone, come, func(a, b *Service) int { return a.Ref.Compare(b.Ref) })
	p.last = s
	return p.list
}

// appendIf appends svc, which may be nil, if Pick picks it.
func (p *Picked) appendIf(list []*Service, svc *Service) []*Service {
	if svc == nil {
		return list
	}
	if p.looked++; !p.Pick(svc) {
		return list
	}
	return append(list, svc)
}
