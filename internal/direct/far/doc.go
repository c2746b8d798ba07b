// Package far finds out which nodes of other subnets get what the director sends them behind
// its header, and how long these packets may be. The routers and firewalls between them may drop
// such packets, and nothing says so.
//
// A node asks an address of another one by UDP, from and to the header's port, with packets as
// long as the route takes, and shorter ones. The agent there answers addresses of nodes from
// which its own program takes such packets. So an answer says that the way carries them, and
// that they are taken at its end.
package far
