// Package observe decides what the nodes' words mean for a whole cluster: who
// announces each address, or why nobody does; which nodes are gone; which foreign
// host has an address; how the sessions with each BGPPeer stand; and what nodes
// could not do for the node ports of a Service. It acts on nothing.
package observe
