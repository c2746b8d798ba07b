// Package survey reads a cluster through the API server, with the rights of
// whoever asks, and makes the value of it that internal/cli/cluster describes. It
// writes nothing.
package survey
