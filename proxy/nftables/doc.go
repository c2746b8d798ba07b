// Package nftables decides what the kernel holds to make a proxy.Table true: the two
// nftables tables "ip fairlead" and "ip6 fairlead". It is pure. The package netlink
// beside it reads the kernel and writes to it. docs/proxy.md describes the tables and
// the reasons for them.
//
// Five types carry the work:
//
//   - Ruleset is what the tables shall hold.
//   - Kernel is what a table was found to hold.
//   - Patch is what to change in a table: a difference or a swap, in three Steps.
//   - Slots are a Frontend and the numbered places of its endpoints.
//   - A Move says where the clients that affinity remembers belong after a change.
//
// One Sync of a proxy.Table goes through them in this order:
//
//  1. If only we wrote to the tables since the last Sync, Ruleset.Next plans from the
//     Ruleset of then. Otherwise netlink reads a Kernel for each family, and Adopt
//     plans from those.
//  2. Both give each Frontend its Slots (slots.go), make each family's Layout, the
//     sets, chains and rules (layout.go, chains.go, rule.go), and compare them, and
//     the elements (render.go), with what is there (patch.go). The results are the
//     next Ruleset and a Patch for each family.
//  3. netlink writes the Patches. If that fails, the old Ruleset stays.
//  4. netlink takes the clients of the Patches' Moves out of the sets where they were.
//
// Beside Sync, Flow.Stale (flows.go) decides which connections end, and Concerned after
// which changes netlink has to ask it.
//
// The way back (parse.go), from a Kernel to Slots, gives adoption what it needs: which
// endpoint has which slot, who remembers clients, and what is gone.
package nftables
