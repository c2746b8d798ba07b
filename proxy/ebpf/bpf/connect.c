// SPDX-License-Identifier: Apache-2.0
//
// At the moment a program connects a socket to a Service, or sends a datagram to
// it, the address is replaced by that of an endpoint. What is not found in the
// maps is left as it is: then nftables looks at the packets.
//
// Addresses are 16 bytes for both families, IPv4 as ::ffff:a.b.c.d, which is also
// how an IPv6 socket names an IPv4 address. Ports are in network byte order.

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define CLIENTS 65536 // of each map that forgets the oldest
#define SEATS 16384   // of connected sockets, a power of 2
#define DEEPEST 10    // level of a pod's cgroup

struct address {
	__u32 ip[4];
	__u16 port;
	__u16 zero;
};

struct frontend { // ip is all zero, but for ::ffff:, if it is a node port
	__u32 ip[4];
	__u16 port;
	__u8 protocol;
	__u8 zero;
};

struct service {
	__u64 list;	// never used again for another list
	__u32 count;	// of its endpoints, at least 1
	__u32 affinity; // seconds; 0: none
};

struct slot {
	__u64 list;
	__u32 number;
	__u32 zero;
};

struct member {
	struct frontend front;
	struct address endpoint;
};

struct client {
	struct frontend front;
	__u32 zero;
	__u64 netns; // cookie
};

struct stay {
	struct address endpoint;
	__u32 zero;
	__u64 since; // ns of the monotonic clock; of the last new connection
};

struct socket {
	__u64 cookie;
	struct address address;
	__u32 zero;
};

struct flow {
	struct address endpoint;
	__u32 zero;
	__u64 list;
};

struct peer {
	struct address dialled;
};

struct dial {
	struct address endpoint;
	struct address dialled;
	struct frontend front;
};

// A seat holds a dial without hashing. Cookies are given one after the other, so
// that sockets of the same time seldom want the same one.
struct seat {
	__u64 cookie; // who has it; 0: nobody; WRITING: the dial is not to be read
	struct dial dial;
	__u32 standing; // how many others have no seat but this one
};

#define WRITING (~0ULL) // no socket's cookie

struct settings {
	// Raised before the agent writes, and again when what it replaces is not to be
	// found any more and not yet deleted.
	__u64 generation;
	__u64 until;	  // ns of the monotonic clock; without an agent that renews it all is left to nftables
	__u32 excluded;	  // how many cgroups are in the map of that name
	__u32 connected;  // also UDP sockets that are connected
};

#define MAP(NAME, TYPE, KEY, VALUE, MOST, FLAGS)    \
	struct {                                    \
		__uint(type, BPF_MAP_TYPE_##TYPE);  \
		__type(key, KEY);                   \
		__type(value, VALUE);               \
		__uint(max_entries, MOST);          \
		__uint(map_flags, FLAGS);           \
		__uint(pinning, LIBBPF_PIN_BY_NAME); \
	} NAME SEC(".maps")

// What the agent writes.
MAP(config, ARRAY, __u32, struct settings, 1, 0);
MAP(services, HASH, struct frontend, struct service, 131072, BPF_F_NO_PREALLOC);
MAP(endpoints, HASH, struct slot, struct address, 524288, BPF_F_NO_PREALLOC);
MAP(members, HASH, struct member, __u8, 524288, BPF_F_NO_PREALLOC); // of services with affinity or UDP
MAP(node_ips, HASH, struct address, __u8, 1024, BPF_F_NO_PREALLOC);
MAP(excluded, HASH, __u64, __u8, 4096, BPF_F_NO_PREALLOC);	    // ids of pods' cgroups

// What the programs write.
MAP(affinity, LRU_HASH, struct client, struct stay, CLIENTS, 0);
MAP(flows, LRU_HASH, struct socket, struct flow, CLIENTS, 0); // by what was dialled: where UDP goes
MAP(peers, LRU_HASH, struct socket, struct peer, CLIENTS, 0); // by the endpoint: what was dialled
MAP(seats, ARRAY, __u32, struct seat, SEATS, 0);		      // by cookie: sockets that are connected
MAP(dials, HASH, __u64, struct dial, 4 * CLIENTS, BPF_F_NO_PREALLOC); // those whose seat was taken

#define INLINE static __attribute__((always_inline)) inline

INLINE bool same(const struct address *a, const struct address *b)
{
	return a->ip[0] == b->ip[0] && a->ip[1] == b->ip[1] && a->ip[2] == b->ip[2] &&
	       a->ip[3] == b->ip[3] && a->port == b->port;
}

// left reports whether a socket is left to nftables.
INLINE bool left(struct bpf_sock_addr *ctx, struct settings *c)
{
	__u64 id;
	int level;

	if (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP)
		return true;
	if (bpf_ktime_get_coarse_ns() > c->until)
		return true;
	if (!c->excluded)
		return false;
	for (level = 1; level <= DEEPEST; level++) {
		id = bpf_get_current_ancestor_cgroup_id(level);
		if (!id)
			break;
		if (bpf_map_lookup_elem(&excluded, &id))
			return true;
	}
	return false;
}

// find returns the service at an address, and with front its key.
INLINE struct service *find(const struct address *to, __u8 protocol, struct frontend *front)
{
	struct address node = {};
	struct service *s;

	__builtin_memcpy(front->ip, to->ip, sizeof(front->ip));
	front->port = to->port;
	front->protocol = protocol;
	s = bpf_map_lookup_elem(&services, front);
	if (s)
		return s;
	__builtin_memcpy(node.ip, to->ip, sizeof(node.ip));
	if (!bpf_map_lookup_elem(&node_ips, &node))
		return NULL;
	if (front->ip[0] || front->ip[1] || front->ip[2] != bpf_htonl(0xffff))
		front->ip[0] = front->ip[1] = front->ip[2] = 0;
	front->ip[3] = 0;
	return bpf_map_lookup_elem(&services, front);
}

INLINE bool is_member(const struct frontend *front, const struct address *endpoint)
{
	struct member m = {};

	m.front = *front;
	m.endpoint = *endpoint;
	return bpf_map_lookup_elem(&members, &m);
}

INLINE bool random(const struct service *s, struct address *endpoint)
{
	struct slot slot = {.list = s->list};
	struct address *e;

	if (s->count > 1)
		slot.number = bpf_get_prandom_u32() % s->count;
	e = bpf_map_lookup_elem(&endpoints, &slot);
	if (e)
		*endpoint = *e;
	return e;
}

// by_client is random for a service with affinity.
INLINE bool by_client(struct bpf_sock_addr *ctx, const struct service *s, const struct frontend *front,
		      struct address *endpoint)
{
	struct client client = {.netns = bpf_get_netns_cookie(ctx)};
	struct stay stay = {.since = bpf_ktime_get_coarse_ns()}, *known;

	client.front = *front;
	known = bpf_map_lookup_elem(&affinity, &client);
	if (known && stay.since - known->since < s->affinity * 1000000000ULL) {
		stay.endpoint = known->endpoint;
		if (is_member(front, &stay.endpoint)) {
			*endpoint = stay.endpoint;
			bpf_map_update_elem(&affinity, &client, &stay, BPF_ANY);
			return true;
		}
	}
	if (!random(s, endpoint))
		return false;
	stay.endpoint = *endpoint;
	bpf_map_update_elem(&affinity, &client, &stay, BPF_ANY);
	return true;
}

// remember keeps what a socket dialled to come to an endpoint.
INLINE void remember(const struct socket *at, const struct address *endpoint)
{
	struct socket by = {.cookie = at->cookie};
	struct peer peer = {}, *known;

	by.address = *endpoint;
	known = bpf_map_lookup_elem(&peers, &by);
	if (known && same(&known->dialled, &at->address))
		return;
	peer.dialled = at->address;
	bpf_map_update_elem(&peers, &by, &peer, BPF_ANY);
}

INLINE struct seat *seat_of(__u64 cookie)
{
	__u32 index = cookie % SEATS;

	return bpf_map_lookup_elem(&seats, &index);
}

// sit takes the seat if nobody else has it.
INLINE bool sit(struct seat *seat, __u64 cookie, const struct dial *dial)
{
	__u64 was = seat->cookie == cookie ? cookie : 0;

	if (__sync_val_compare_and_swap(&seat->cookie, was, WRITING) != was)
		return false;
	seat->dial = *dial;
	*(volatile __u64 *)&seat->cookie = cookie; // no barrier, which would wait for memory: who reads it looks again later
	return true;
}

// remember_dial is remember for a socket that is connected, until it is closed.
INLINE bool remember_dial(const struct socket *at, const struct address *endpoint, const struct frontend *front)
{
	struct seat *seat = seat_of(at->cookie);
	struct dial dial = {};

	dial.endpoint = *endpoint;
	dial.dialled = at->address;
	dial.front = *front;
	if (!seat)
		return false; // there is one for each number
	if (sit(seat, at->cookie, &dial))
		return true;
	if (bpf_map_update_elem(&dials, &at->cookie, &dial, BPF_ANY))
		return false;
	__sync_fetch_and_add(&seat->standing, 1);
	return true;
}

INLINE struct dial *dial_of(__u64 cookie)
{
	struct seat *seat = seat_of(cookie);

	if (seat && seat->cookie == cookie)
		return &seat->dial;
	return bpf_map_lookup_elem(&dials, &cookie);
}

INLINE void forget(__u64 cookie)
{
	struct seat *seat = seat_of(cookie);

	if (!seat)
		return;
	if (seat->cookie == cookie)
		seat->cookie = 0;
	if (seat->standing && !bpf_map_delete_elem(&dials, &cookie))
		__sync_fetch_and_add(&seat->standing, -1);
}

// follow returns the endpoint that a socket has sent to before, if it is still
// one of the service's.
INLINE bool follow(const struct socket *at, const struct service *s, const struct frontend *front,
		   struct address *endpoint)
{
	struct flow *known = bpf_map_lookup_elem(&flows, at);

	if (!known)
		return false;
	*endpoint = known->endpoint;
	if (known->list == s->list)
		return true;
	if (!is_member(front, endpoint))
		return false;
	known->list = s->list;
	return true;
}

enum use { STREAM, CONNECTED, DATAGRAM };

INLINE __u64 generation(const struct settings *c) { return *(const volatile __u64 *)&c->generation; }

// choose decides which endpoint a socket that dials an address comes to; false
// if it is left as it is. What was read is right, and what was written is found by
// the agent, if the generation is still the same at the end.
INLINE bool choose(struct bpf_sock_addr *ctx, const struct settings *c, enum use use, const struct address *to,
		   struct address *endpoint)
{
	struct socket at = {.cookie = bpf_get_socket_cookie(ctx)};
	struct frontend front = {};
	struct flow flow = {};
	struct service *s, now;
	__u64 began;
	int tries;

	at.address = *to;
	for (tries = 0; tries < 4; tries++) {
		began = generation(c);
		s = find(to, use == STREAM ? IPPROTO_TCP : IPPROTO_UDP, &front);
		if (!s)
			return false;
		now = *s;
		if (use == DATAGRAM && follow(&at, &now, &front, endpoint)) {
			remember(&at, endpoint);
			return true;
		}
		if (!(now.affinity ? by_client(ctx, &now, &front, endpoint) : random(&now, endpoint)))
			continue;
		if (use == DATAGRAM)
			remember(&at, endpoint);
		else if (!remember_dial(&at, endpoint, &front) && use == CONNECTED)
			return false; // nobody would find the socket when its endpoint goes
		if (generation(c) != began)
			continue;
		if (use == DATAGRAM) {
			flow.endpoint = *endpoint;
			flow.list = now.list;
			bpf_map_update_elem(&flows, &at, &flow, BPF_ANY);
		}
		return true;
	}
	return false;
}

INLINE struct settings *configured(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

INLINE bool connect(struct bpf_sock_addr *ctx, const struct address *to, struct address *endpoint)
{
	struct settings *c = configured();

	if (!c || left(ctx, c))
		return false;
	if (ctx->protocol == IPPROTO_TCP)
		return choose(ctx, c, STREAM, to, endpoint);
	return c->connected && choose(ctx, c, CONNECTED, to, endpoint);
}

INLINE bool sendmsg(struct bpf_sock_addr *ctx, const struct address *to, struct address *endpoint)
{
	struct settings *c = configured();

	return c && !left(ctx, c) && choose(ctx, c, DATAGRAM, to, endpoint);
}

INLINE bool getpeername(struct bpf_sock_addr *ctx, const struct address *peer, struct address *dialled)
{
	struct dial *d = dial_of(bpf_get_socket_cookie(ctx));

	if (!d || !same(&d->endpoint, peer))
		return false;
	*dialled = d->dialled;
	return true;
}

// recvmsg returns what the socket dialled to come to where the datagram is from.
INLINE bool recvmsg(struct bpf_sock_addr *ctx, const struct address *from, struct address *dialled)
{
	struct socket at = {.cookie = bpf_get_socket_cookie(ctx)};
	struct peer *p;

	at.address = *from;
	p = bpf_map_lookup_elem(&peers, &at);
	if (!p)
		return getpeername(ctx, from, dialled);
	*dialled = p->dialled;
	return true;
}

// HOOK defines the programs of both families at one hook.
#define HOOK(NAME)                                                      \
	SEC("cgroup/" #NAME "4")                                        \
	int NAME##4(struct bpf_sock_addr *ctx)                          \
	{                                                               \
		struct address now = {}, new = {};                      \
		now.ip[2] = bpf_htonl(0xffff);                          \
		now.ip[3] = ctx->user_ip4;                              \
		now.port = ctx->user_port;                              \
		if (NAME(ctx, &now, &new)) {                            \
			ctx->user_ip4 = new.ip[3];                      \
			ctx->user_port = new.port;                      \
		}                                                       \
		return 1;                                               \
	}                                                               \
	SEC("cgroup/" #NAME "6")                                        \
	int NAME##6(struct bpf_sock_addr *ctx)                          \
	{                                                               \
		struct address now = {}, new = {};                      \
		now.ip[0] = ctx->user_ip6[0];                           \
		now.ip[1] = ctx->user_ip6[1];                           \
		now.ip[2] = ctx->user_ip6[2];                           \
		now.ip[3] = ctx->user_ip6[3];                           \
		now.port = ctx->user_port;                              \
		if (NAME(ctx, &now, &new)) {                            \
			ctx->user_ip6[0] = new.ip[0];                   \
			ctx->user_ip6[1] = new.ip[1];                   \
			ctx->user_ip6[2] = new.ip[2];                   \
			ctx->user_ip6[3] = new.ip[3];                   \
			ctx->user_port = new.port;                      \
		}                                                       \
		return 1;                                               \
	}

HOOK(connect)
HOOK(sendmsg)
HOOK(recvmsg)
HOOK(getpeername)

// A socket that is closed is forgotten.
SEC("cgroup/sock_release")
int sock_release(struct bpf_sock *sk)
{
	forget(bpf_get_socket_cookie(sk));
	return 1;
}

char _license[] SEC("license") = "Apache-2.0";
