// Package nftables is the forwarding engine: it makes a proxy.Table true in
// the kernel as the two nftables tables "ip fairlead" and "ip6 fairlead", over
// netlink and without the nft program. What the tables hold, and what to write
// to get there, are pure functions (shape.go, layout.go, slots.go, render.go,
// parse.go, diff.go, state.go); only conn.go, read.go, engine.go, after.go,
// affinity.go and conntrack.go touch the kernel. docs/proxy.md describes the
// layout and its reasons.
package nftables
