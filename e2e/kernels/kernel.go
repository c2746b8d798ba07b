// Package kernels runs the product's kernel tests on other kernels: it fetches
// Debian's kernels, boots each in QEMU with an initramfs of its own, and reads from
// the guest's serial port how the tests ended. The program in the guest is
// cmd/guest.
package kernels

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Kernel is a series of Linux, and the suite of Debian that has it.
type Kernel struct {
	Series string // such as 6.1; 7 is any 7.x
	Suite  string // such as bookworm
}

// All are the kernels that the tests run on, oldest first.
var All = []Kernel{
	{"5.10", "bullseye"}, // the oldest that docs/versions.md admits
	{"6.1", "bookworm"},
	{"6.12", "trixie"},
	{"7", "sid"}, // the newest, whatever its minor version is
}

// Pick returns the kernels of the named series, separated by commas or blanks. Without
// a name it returns all of them.
func Pick(names string) ([]Kernel, error) {
	list := strings.FieldsFunc(names, func(r rune) bool { return r == ',' || r == ' ' })
	if len(list) == 0 {
		return All, nil
	}
	var picked []Kernel
	for _, name := range list {
		i := slices.IndexFunc(All, func(k Kernel) bool { return k.Series == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no kernel %q: choose of %v", name, All)
		}
		picked = append(picked, All[i])
	}
	return picked, nil
}

// String is the series.
func (k Kernel) String() string { return k.Series }

// kernelPackages are the names, in the output of apt-cache depends, of the packages
// that together hold a kernel and its modules. Newer suites divide what used to be
// one package.
func kernelPackages(depends string) []string {
	list := regexp.MustCompile(`(?m)^linux-(image|base|binary|modules)-[0-9]\S*$`).FindAllString(depends, -1)
	slices.Sort(list)
	return slices.Compact(list)
}

// older reports whether series a is older than series b.
func older(a, b string) bool {
	var aMajor, aMinor, bMajor, bMinor int
	_, _ = fmt.Sscanf(a, "%d.%d", &aMajor, &aMinor)
	_, _ = fmt.Sscanf(b, "%d.%d", &bMajor, &bMinor)
	return aMajor < bMajor || aMajor == bMajor && aMinor < bMinor
}
