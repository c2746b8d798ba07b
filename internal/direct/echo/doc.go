// Package echo finds out whether the network lets this node send what the director makes it
// send: packets from the addresses of clients, and of VIPs that another node has. Networks
// that prevent spoofing drop them, and no packet comes back that would say so.
//
// The node sends other nodes a few packets that nobody waits for, as answers to pings, and
// the agents there say which of them came. A node that is not heard at all says nothing of
// the network. Whether a router accepts a reply by another way than the request took is
// not found: that packet goes to no node.
package echo
