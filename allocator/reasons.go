package allocator

import "github.com/fairlead/fairlead/internal/snapshot"

// The reasons that this package gives. They are the whole set: Events,
// conditions, metric labels and docs/allocator.md use these words and no other.
const (
	// NoPool: there is no AddressPool, or none that gives addresses unasked.
	NoPool snapshot.Reason = "NoPool"
	// PoolExhausted: the pools that serve the Service have no free address.
	PoolExhausted snapshot.Reason = "PoolExhausted"
	// NamespaceLimit: the namespace holds as many addresses of the pool as it may.
	NamespaceLimit snapshot.Reason = "NamespaceLimit"
	// PoolNotFound: the Service asks for a pool that does not exist.
	PoolNotFound snapshot.Reason = "PoolNotFound"
	// PoolConflicting: the pool overlaps an older pool or the cluster's own
	// addresses and gives nothing.
	PoolConflicting snapshot.Reason = "PoolConflicting"
	// PoolInvalid: a part of the pool's spec.addresses cannot be read, so it
	// gives nothing.
	PoolInvalid snapshot.Reason = "PoolInvalid"
	// PoolDisabled: the pool is being drained: holders stay, nobody joins.
	PoolDisabled snapshot.Reason = "PoolDisabled"
	// NotSelected: the pool's namespaces or selectors leave the Service out.
	NotSelected snapshot.Reason = "NotSelected"
	// OutsidePools: the address is in no pool, or its pool avoids it.
	OutsidePools snapshot.Reason = "OutsidePools"
	// AddressReserved: the pool keeps the address for another Service.
	AddressReserved snapshot.Reason = "AddressReserved"
	// AddressInUse: another Service holds the address.
	AddressInUse snapshot.Reason = "AddressInUse"
	// ShareRefused: the address is shared, but not with this Service.
	ShareRefused snapshot.Reason = "ShareRefused"
	// PortInUse: another Service has the port of the nodes whose addresses the Service
	// would share.
	PortInUse snapshot.Reason = "PortInUse"
	// PortOfNode: the port is one that nodes have for themselves.
	PortOfNode snapshot.Reason = "PortOfNode"
	// WrongFamily: the addresses do not fit the Service's IP families.
	WrongFamily snapshot.Reason = "WrongFamily"
	// NoPrefix: the pool follows a prefix of the network, and has none yet.
	NoPrefix snapshot.Reason = "NoPrefix"
	// NoLease: the pool leases its addresses from a DHCP server, and has none for the
	// Service yet.
	NoLease snapshot.Reason = "NoLease"
	// InvalidRequest: an annotation or spec.loadBalancerIP cannot be read.
	InvalidRequest snapshot.Reason = "InvalidRequest"
	// ConflictingRequest: two parts of the request contradict each other.
	ConflictingRequest snapshot.Reason = "ConflictingRequest"
	// TooLarge: the Service has more ports than an address is given for.
	TooLarge snapshot.Reason = "TooLarge"
	// NoClusterIP: the Service has no cluster IP yet, so its families are not
	// known. Not an error.
	NoClusterIP snapshot.Reason = "NoClusterIP"

	// DuplicateRequest: spec.loadBalancerIP and an annotation ask for the same.
	DuplicateRequest snapshot.Reason = "DuplicateRequest"
	// DeprecatedLoadBalancerIP: spec.loadBalancerIP is honoured but deprecated.
	DeprecatedLoadBalancerIP snapshot.Reason = "DeprecatedLoadBalancerIP"
	// LeaseLapsing: the lease of an address is not renewed. The Service keeps the address
	// until the lease ends.
	LeaseLapsing snapshot.Reason = "LeaseLapsing"
	// StatusIgnored: the status names an address that no record gives to the
	// Service and that it may not have.
	StatusIgnored snapshot.Reason = "StatusIgnored"
)

// The reasons of a pool's conditions, besides PoolInvalid, PoolConflicting and
// PoolDisabled.
const (
	// PoolReady: the pool gives addresses.
	PoolReady snapshot.Reason = "PoolReady"
	// PoolEmpty: the pool has no address.
	PoolEmpty snapshot.Reason = "PoolEmpty"
	// NoConflict: the pool overlaps nothing.
	NoConflict snapshot.Reason = "NoConflict"
	// OverlapsPool: the pool overlaps an older pool.
	OverlapsPool snapshot.Reason = "OverlapsPool"
	// OverlapsNode: the pool contains addresses of nodes or of the API server, which it
	// does not give.
	OverlapsNode snapshot.Reason = "OverlapsNode"
	// OverlapsPods: the pool overlaps the pod CIDR of a node.
	OverlapsPods snapshot.Reason = "OverlapsPods"
	// OverlapsServices: the pool overlaps a Service CIDR.
	OverlapsServices snapshot.Reason = "OverlapsServices"
	// OverlapsSpecial: the pool contains addresses that no client can connect to:
	// loopback, link-local, multicast and the like.
	OverlapsSpecial snapshot.Reason = "OverlapsSpecial"
	// LeasesHeld: the pool has every lease that its Services want.
	LeasesHeld snapshot.Reason = "LeasesHeld"
	// LeasesMissing: the pool has no lease for a Service, or one that is not renewed.
	LeasesMissing snapshot.Reason = "LeasesMissing"
	// PrefixAgreed: more than half of the nodes see the prefix that the pool gives
	// addresses of.
	PrefixAgreed snapshot.Reason = "PrefixAgreed"
	// PrefixChanging: more than half of the nodes see another prefix, which the pool
	// follows in a moment if that stays so.
	PrefixChanging snapshot.Reason = "PrefixChanging"
	// PrefixDeprecated: the router lets the pool's prefix go and announces no other one.
	// The pool keeps it.
	PrefixDeprecated snapshot.Reason = "PrefixDeprecated"
	// PrefixDisputed: no prefix is seen by more than half of the nodes. The pool keeps
	// the one that it has.
	PrefixDisputed snapshot.Reason = "PrefixDisputed"
	// PrefixUnseen: no node sees a prefix. The pool keeps the one that it has.
	PrefixUnseen snapshot.Reason = "PrefixUnseen"
)
