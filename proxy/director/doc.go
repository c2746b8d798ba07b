// Package director decides which node serves a connection to a directed VIP, from what
// every node knows alike: the nodes and their endpoints. No node keeps a flow for
// another. Everything here is pure.
//
// A connection has a slot by its hash. The slot has a primary node, which gets what
// opens connections. A connection that was opened when the slot had another primary is
// looked for along a Chain of nodes, by Walk: a node that does not have it passes the
// packet on.
//
// Two nodes may decide from different states of the cluster for a while, and do so on
// different processors. So there is no floating point, and no order of a map.
package director
