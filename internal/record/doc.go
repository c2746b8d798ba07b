// Package record writes down what the allocator decided, for whoever acts on a
// Plan: the Address records, which are the locks, the pools' counters and the
// conditions. It decides nothing.
package record
