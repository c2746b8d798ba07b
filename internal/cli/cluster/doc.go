// Package cluster is what a person's command sees of a cluster at one moment:
// the Snapshot that every decision reads, and what fairlead's processes say of
// themselves. It is a value; internal/cli/survey makes it.
package cluster
