// Package program passes packets on to the nodes that serve their connections, as the
// package director decides: a program at the ingress of links, in eBPF, and what it
// knows, in maps. docs/director.md has its rules.
//
// A State is all that the program is to know. Sync makes the maps hold it, and Attach
// has the program see the packets of links. Both may be called again with the same
// value. The program and its maps are pinned: they go on when the agent ends, and the
// next one adopts them.
package program
