// Package nftables is the forwarding engine: it makes a proxy.Table true in
// the kernel as the two nftables tables "ip fairlead" and "ip6 fairlead",
// over netlink and without the nft program. Everything up to the messages is
// a pure function (slots.go, render.go, layout.go, parse.go, diff.go); only
// conn.go, read.go, write.go and engine.go touch the kernel. docs/proxy.md
// describes the layout and its reasons.
package nftables
