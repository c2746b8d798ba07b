// Package apitest is an API server in memory, for tests that tell the
// allocator's stories to what acts on a Plan. It has conflicts, unique names
// and preconditions, and brings every change to the Store at once, so that a
// story needs no waiting.
package apitest
