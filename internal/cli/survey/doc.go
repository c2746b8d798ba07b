// Package survey reads a cluster through the API server, with the rights of the
// person who asks, and returns the value that internal/cli/cluster describes. It
// writes nothing.
package survey
