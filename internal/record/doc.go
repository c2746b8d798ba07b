// Package record carries out what was decided: the controller and the cloud
// provider write to the API through its Writer, and through nothing else but Events.
// There is one method for each kind of write: Address records and their statuses,
// Services' statuses and finalizers, pools, BGPPeers, NodeStates. A method writes
// what differs from the Snapshot and gives the Store what the API server returned.
//
// The package decides nothing. What to write comes from allocator.Decide (who holds
// which address) and observe.Observe (how addresses, peers and node ports stand);
// the order of the writes is the caller's.
package record
