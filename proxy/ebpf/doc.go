// Package ebpf stands before another Dataplane: what the programs of this node's
// pods connect to is replaced by an endpoint at the socket, so that no packet has
// to be translated. Whatever it does not know, and everything when it cannot work,
// is left to the Dataplane behind it, which holds the same Table.
package ebpf

//go:generate ../../internal/tools/generate-bpf.sh
