// Package story is the cluster in which the allocator's stories are told: text
// files that say what is in it, what is wanted, what happens then, and what is
// wanted then. The same file can be told to Decide alone or to a whole
// controller.
//
// The sections "cluster" and "then" of a file hold commands for a World; what
// the others hold is compared with what came out: "want" (the Plan),
// "addresses" (the records), "pools" (their status) and "messages" (refusals
// and warnings in full).
package story
