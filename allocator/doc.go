// Package allocator decides which addresses every Service of type LoadBalancer
// holds, and why another holds none. Decide is a pure function of a Snapshot:
// it reads no clock, keeps nothing between calls and asks nobody, so the same
// cluster always gives the same Plan, no matter who asks and how often.
//
// The order of Services is: who holds an address by its record, who holds one by
// its status alone, who holds one and asks for another, who waits.
package allocator
