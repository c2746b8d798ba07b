// Package record carries out what was decided. Everything that the controller and
// the cloud provider decide about objects of the cluster is written by its Writer,
// which has one method for each kind of write: Address records and their statuses,
// Services' statuses and finalizers, pools, BGPPeers, NodeStates. A method writes
// what differs from what is there and gives the Store what the API server returned.
// Events are the caller's, except for those of node ports.
//
// The package decides nothing. What to write comes from allocator.Decide (who holds
// which address) and observe.Observe (how addresses, peers and node ports stand);
// the order of the writes is the caller's.
package record
