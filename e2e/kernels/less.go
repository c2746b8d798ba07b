package kernels

import "github.com/fairlead/fairlead/internal/test/nstest"

// Less is what a guest lacks: "ipv6", or the name of a kernel module; "" for nothing.
type Less string

// parameters are those of the kernel, beside the others.
func (l Less) parameters() string {
	switch l {
	case "":
		return ""
	case "ipv6":
		return " ipv6.disable=1"
	}
	return " module_blacklist=" + string(l)
}

// Env tells the tests of it.
func (l Less) Env() []string {
	if l == "" {
		return nil
	}
	return []string{nstest.LessEnv + "=" + string(l)}
}
