package program

import "github.com/fairlead/fairlead/proxy/director"

// What the maps are made of.
type (
	State    = director.State
	Node     = director.Node
	MAC      = director.MAC
	Frontend = director.Frontend
	Slots    = director.Slots
	Grace    = director.Grace
)

// The graces.
const (
	NoGrace  = director.NoGrace
	OnGrace  = director.OnGrace
	OffGrace = director.OffGrace
)
