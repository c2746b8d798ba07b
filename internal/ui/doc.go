// Package ui serves a cluster as pages that people look at. It reads with the rights of
// no matter how many look, changes nothing, and sends a page again when the cluster changes.
package ui
