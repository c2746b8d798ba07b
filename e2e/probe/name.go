package probe

// Name is what a resolver says of a name.
type Name struct {
	Canonical string   `json:"canonical"` // with a dot at the end
	Addresses []string `json:"addresses"` // sorted
}
