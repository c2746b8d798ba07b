package kernels

import "strings"

// Exception is a test that does not run in the guests.
type Exception struct {
	Package, Test string
	Below         string // series from which on it runs; empty: it never does
	Why           string
}

// Exceptions are all of them. What a kernel cannot do has its consequence in
// docs/versions.md.
var Exceptions = []Exception{
	{"nodeport", "TestPure", "", "asks the go command, not the kernel"},
	{"nodeport", "TestDocs", "", "reads docs/, not the kernel"},
}

// on are the exceptions of a kernel.
func on(k Kernel) []Exception {
	var list []Exception
	for _, e := range Exceptions {
		if e.Below == "" || older(k.Series, e.Below) {
			list = append(list, e)
		}
	}
	return list
}

// skipped is the regular expression of those tests of a package that do not run with
// a kernel; empty if all do.
func skipped(k Kernel, pkg string) string {
	var names []string
	for _, e := range on(k) {
		if e.Package == pkg {
			names = append(names, e.Test)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "^(" + strings.Join(names, "|") + ")$"
}
