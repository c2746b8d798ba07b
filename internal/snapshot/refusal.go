package snapshot

// Reason is a bounded, CamelCase word that is at once an Event reason, a
// condition reason and a metric label.
type Reason string

// Refusal is "decided not to", with why. It is a value, not an error.
type Refusal struct {
	Reason  Reason
	Message string
}

func (r Refusal) String() string { return string(r.Reason) + ": " + r.Message }
