package kernels

import (
	"fmt"
	"slices"
	"strings"
)

// Exception is tests of a package that do not run in some guests.
type Exception struct {
	Package string
	Tests   []string
	From    string // only on this series and newer ones; empty: on all
	Below   string // only on series before this one; empty: on all
	Why     string
}

// Exceptions are all of them. What a kernel cannot do has its consequence in
// docs/versions.md, and the reason names the section.
var Exceptions = []Exception{
	{Package: "nodeport", Tests: []string{"TestPure", "TestDocs"}, Why: "these read the source, not the kernel"},
	{
		Package: "proxy/ebpf", Below: "5.12",
		Tests: []string{
			"TestConnect", "TestDatagrams", "TestStaleSockets", "TestAffinity", "TestLeft", "TestChangesUnderLoad", "TestExclude",
			"TestPinned", "TestKilled", "TestLease", "TestRepair", "TestOff", "TestCleanup", "TestDataplane", "TestFaults", "TestFullMap",
		},
		Why: "no atomic operations in eBPF programs: nftables forwards everything (docs/versions.md, What an older kernel lacks)",
	},
	{
		Package: "proxy/director/program", Below: "5.18",
		Tests: []string{"TestRules", "TestDiversions", "TestDecidesAsDirector", "TestHopsEnd", "TestHalfClosed", "TestSubnets"},
		Why:   "no conntrack functions for eBPF programs: nftables looks connections up, which TestRulesWithoutOracle and TestAsking show (docs/versions.md, What an older kernel lacks)",
	},
	{
		Package: "proxy/nftables/netlink", Tests: []string{"TestRefusedTransactionNamesTheElement"}, Below: "6.1",
		Why: "the kernel names the set that it refuses, not the element (docs/versions.md, What an older kernel lacks)",
	},
	{
		Package: "proxy/nftables/netlink", Tests: []string{"TestListingLoadsBack", "TestFullMemory", "TestSwapLeavesWhatOldRulesLookUp", "TestSwapUnderLoad"}, From: "6.12",
		Why: "these load rules by nft, and nft 1.0.6 writes an expression (byteorder of 1 byte) that newer kernels refuse; fairlead starts no nft",
	},
	{Package: "proxy/nftables/netlink", Tests: []string{"TestSixtyThousandClients"}, Why: "it takes a minute where nothing is emulated: make e2e WHAT=networks runs it"},
	{Package: "proxy/nftables/netlink", Tests: []string{"TestSwapWithV010UnderLoad"}, Why: "it starts the engine of v0.1.0, which is built from the repository's history"},
	{Package: "announcer/l2", Tests: []string{"TestMonotonic"}, Why: "it reads the source, not the kernel"},
}

// Circumstances are what decides which exceptions hold, and how large tests are.
type Circumstances struct {
	Kernel   Kernel
	Emulated bool // there is no KVM
}

// Hold are the exceptions that hold for the packages.
func (c Circumstances) Hold(packages []string) []Exception {
	var list []Exception
	for _, e := range Exceptions {
		if slices.Contains(packages, e.Package) && c.within(e) {
			list = append(list, e)
		}
	}
	return list
}

// within reports whether the kernel is one of those that e is about.
func (c Circumstances) within(e Exception) bool {
	return (e.From == "" || !older(c.Kernel.Series, e.From)) && (e.Below == "" || older(c.Kernel.Series, e.Below))
}

// skipped is the regular expression of the tests of a package that do not run; empty
// if all do.
func skipped(list []Exception, pkg string) string {
	var names []string
	for _, e := range list {
		if e.Package == pkg {
			names = append(names, e.Tests...)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "^(" + strings.Join(names, "|") + ")$"
}

// String says what does not run, and why.
func (e Exception) String() string {
	return fmt.Sprintf("%s: %s: %s", e.Package, strings.Join(e.Tests, " "), e.Why)
}
