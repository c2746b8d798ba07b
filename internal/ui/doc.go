// Package ui serves a cluster as pages that people look at. It reads with the rights of
// whoever looks, changes nothing, and sends a page again when the cluster changes.
package ui
