// Package labs checks what labs/ has for other people's machines as far as one
// machine can: Vagrant's and Terraform's files are read and evaluated, and what they
// would run on virtual machines runs in network namespaces that are wired like them,
// with the real agents and controller against a real API server. What needs a package
// mirror, a kubelet or a cloud is left out, by name.
package labs
