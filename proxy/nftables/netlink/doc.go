// Package netlink is the forwarding engine: it makes a proxy.Table true in the kernel,
// over netlink and without the nft program. The package nftables decides what to
// write; this one reads the kernel (read.go, watch.go), writes to it (write.go,
// encode.go, batch.go, conn.go) and has affinity forget clients after a change (after.go,
// affinity.go). Engine.Sync (engine.go) is the order of all that. Beside it, a sweeper
// (sweeper.go, conntrack.go) ends stale connections.
package netlink
