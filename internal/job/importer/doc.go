// Package importer turns the configuration of another load balancer into
// fairlead's kinds. It is a pure conversion of text to text: what has no equal is
// said in comments beside what it belongs to.
package importer
