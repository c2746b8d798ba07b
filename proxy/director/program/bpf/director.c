// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// The director: a packet to a directed VIP and port is passed on, unchanged, to the
// node that serves its connection. docs/director.md has the rules, and the numbers in
// the comments here are theirs. A packet that is not passed on is left to the stack,
// with a mark if nftables has to do something about it.
//
// The kernel lets only programs under the GPL call its conntrack functions, hence the
// choice of two licences.
//
// Addresses are 16 bytes for both families, IPv4 as ::ffff:a.b.c.d. Addresses and
// ports are in network byte order. A node is a number that the agent gave it.

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PLACES 8     // of a chain
#define RINGS 61     // orders of all members
#define NODES 1024   // that may be known at once
#define VIPS 4096    // that are counted
#define BUCKETS 16384 // of sources, a power of 2
#define RANGES 64    // of ports of a frontend, a power of 2
#define NOBODY 0xffff

// The TTL of a packet that is passed on counts its hops: FIRST after the first, LAST
// after the sixteenth.
#define FIRST 24
#define LAST 9

// How far a walk goes by the chain's order, and by the ring within the chain.
#define BY_AGE 2
#define BY_RING 10
#define LAST_HOP 15 // of a walk: one is left for a node that has gone
#define MOST_HOPS 16

#define FORMERS 3 // primaries of before that a datagram is passed on to

#define GONE 4 // nodes that have gone lately, a power of 2

// The priority of a packet that is ASKED: ASK, and what nftables is to do with it if
// conntrack has no connection: DROP_IT, RESET_IT, or the node that follows, and NEXT.
#define ASK 0xfa1d0000
#define DROP_IT 0
#define RESET_IT 1
#define NEXT 2

// A packet for a node of another subnet has a header of IP and UDP before its own. This is
// the port, and what both headers take.
#define PORT 7949
#define ROOM4 (sizeof(struct iphdr) + sizeof(struct udphdr))
#define ROOM6 (sizeof(struct ipv6hdr) + sizeof(struct udphdr))

// A way is taken to carry so much, whatever a router says: IPv6 has 1,280 bytes inside.
#define LEAST4 1280
#define LEAST6 (1280 + ROOM6)
#define TOLD_FOR 600 // seconds that a router is believed

#define FAMILY_IPV4 2 // AF_INET
#define FAMILY_IPV6 10

struct key {
	__u32 ip[4];
	__u16 port;
	__u8 protocol;
	__u8 zero;
};

enum frontend_flags {
	HAS_ENDPOINTS = 1, // on this node, and nftables knows them
	BY_CLIENT = 2,	   // session affinity: the source's port does not count
	ON_GRACE = 4,	   // connections of before it was directed go on
	OFF_GRACE = 8,	   // it is no longer directed, but its connections are
	RANGED = 16,	   // its key has the port 0, and its ports are in ranges
	APART = 32,	   // nftables knows the endpoints of nodes that take nothing
};

struct frontend {
	__u32 table; // in tables
	__u32 slots; // of it; 0: no node has an endpoint
	__u32 vip;   // in vips
	__u32 flags;
};

// The ports of a frontend that is RANGED, in host byte order: sorted, and not overlapping.
struct port_range {
	__u16 first, last;
};
struct port_ranges {
	__u32 count;
	struct port_range of[RANGES];
};

struct slot {
	// Nodes: the primary, those before it, then others. NOBODY as the primary is one that
	// takes nothing: the node that a packet reaches first serves the slot, as without a
	// director.
	__u16 chain[PLACES];
	__u32 changed;	     // second of the monotonic clock when it got this primary; 0: long ago
};

struct ring {
	__u32 members;
	__u16 order[NODES]; // nodes
	__u16 place[NODES]; // in order, by node; NOBODY: not a member
};

struct node {
	__u32 ip[4]; // IPv6
	__u32 ip4;
	__u32 link;	// by which it is reached; 0: no node
	__u32 families; // 1: IPv4, 2: IPv6
	__u32 mtu;	// of the way to a node of another subnet; 0: the node is on the link itself
	__u64 name;	// a hash of it
	__u32 source[4]; // this node's IPv6 and IPv4 addresses on the way to another subnet
	__u32 source4;
	__u32 zero;
};

struct address {
	__u32 ip[4];
};

// What a router said of the way to a node.
struct path {
	__u32 mtu;
	__u32 until; // second of the monotonic clock
};

struct mac {
	__u8 address[ETH_ALEN];
	__u16 zero;
};

struct settings {
	__u64 until; // ns of the monotonic clock: without an agent that renews it no SYN is passed on
	__u64 hold;  // until then no walk ends with a reset: a node that has gone may come back
	__u32 me;
	__u32 ranged; // frontends that have ranges of ports
	__u16 gone[GONE]; // these nodes, asked last; NOBODY
	__u32 far;    // addresses of nodes of other subnets
	__u32 zero;
};

enum event {
	SERVED,	  // left to the stack for an endpoint here
	DIRECTED, // passed on to the primary
	DIVERTED, // passed on because this node does not have it
	RESET,	  // left to nftables, which resets it
	ASKED,	  // left to nftables, which looks for a connection
	LIMITED,  // dropped: too many of one source would have been diverted
	DROPPED,  // dropped at the end of a walk
	LEFT,	  // left to the stack as if it were not directed
	FORGED,	  // dropped: it has a header of ours, but is from no node or for no frontend
	TOO_BIG,  // its sender was told that the way to another subnet does not take it
	EVENTS = 16, // a power of 2
};

#define HOPS 32 // a power of 2

struct counts {
	__u64 events[EVENTS];
	__u64 hops[HOPS]; // of what was served here
};

struct count {
	__u64 packets;
	__u64 opened; // those that open a connection
};

#define MAP(NAME, TYPE, KEY, VALUE, MOST, FLAGS)   \
	struct {                                   \
		__uint(type, BPF_MAP_TYPE_##TYPE); \
		__type(key, KEY);                  \
		__type(value, VALUE);              \
		__uint(max_entries, MOST);         \
		__uint(map_flags, FLAGS);          \
	} NAME SEC(".maps")

// What the agent writes.
MAP(config, ARRAY, __u32, struct settings, 1, 0);
MAP(frontends, HASH, struct key, struct frontend, 16384, BPF_F_NO_PREALLOC);
MAP(ranges, HASH, struct key, struct port_ranges, 16384, BPF_F_NO_PREALLOC);
MAP(nodes, ARRAY, __u32, struct node, NODES, 0);
MAP(macs, HASH, struct mac, __u32, 8 * NODES, BPF_F_NO_PREALLOC);
MAP(peers, HASH, struct address, __u32, 8 * NODES, BPF_F_NO_PREALLOC); // which node has it
MAP(rings, ARRAY, __u32, struct ring, RINGS, 0);

// A table has as many slots as its cluster needs, and is never changed: another one
// takes its place.
struct table {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct slot);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_INNER_MAP);
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__type(key, __u32);
	__uint(max_entries, 16384);
	__array(values, struct table);
} tables SEC(".maps");

// What the programs write.
MAP(buckets, ARRAY, __u32, __u64, BUCKETS, 0); // ns: when all that the source used is earned again
MAP(counters, PERCPU_ARRAY, __u32, struct counts, 1, 0);
MAP(vips, PERCPU_ARRAY, __u32, struct count, VIPS, 0);	 // what came from outside
MAP(chosen, PERCPU_ARRAY, __u32, struct count, NODES, 0); // the primary of what came from outside
MAP(diverted, PERCPU_ARRAY, __u32, __u64, NODES, 0);	 // to which node
MAP(paths, ARRAY, __u32, struct path, 2 * NODES, 0);	 // by node; over IPv6 they begin at NODES

// The compiler describes the type of a map inside a map only if something else has it.
const volatile struct slot described = {};

// Constants of one load.
const volatile __u64 seed = 0;
const volatile __u32 mark_serve = 0;  // for an endpoint of this node
const volatile __u32 mark_reset = 0;  // the client is to be told
// Both marks: what conntrack finds invalid is to be reset, and what opens a connection is for
// an endpoint of a node that takes nothing.
const volatile __u64 earn = 100000;   // ns for one diversion of a source
const volatile __u64 burst = 100000000; // ns: what a source may use before it has earned it
const volatile __u32 stream = 180;    // seconds that conntrack keeps a UDP connection
const volatile bool coarse = false;   // the kernel has the cheap clock, from 5.11

// The conntrack functions of the kernel, from 5.18. ct_options is 12 bytes, which is
// what all versions take.
struct bpf_ct_opts {
	__s32 netns; // -1: the packet's
	__s32 error;
	__u8 protocol;
	__u8 direction;
	__u8 zero[2];
};
struct ip_ct_tcp_state {
	__u32 td_end, td_maxend, td_maxwin; // sent, may be sent, largest window
} __attribute__((preserve_access_index));
struct ip_ct_tcp {
	struct ip_ct_tcp_state seen[2]; // the client's, and the VIP's
	__u8 state;
} __attribute__((preserve_access_index));
union nf_conntrack_proto {
	struct ip_ct_tcp tcp;
} __attribute__((preserve_access_index));
struct nf_conn {
	unsigned long status;
	union nf_conntrack_proto proto;
} __attribute__((preserve_access_index));

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 tuple_size,
					 struct bpf_ct_opts *opts, __u32 opts_size) __ksym;
extern void bpf_ct_release(struct nf_conn *ct) __ksym;

#define SEEN_REPLY 2 // IPS_SEEN_REPLY
#define TIME_WAIT 7  // TCP_CONNTRACK_TIME_WAIT
#define CLOSE 8	     // TCP_CONNTRACK_CLOSE

#define PASS TC_ACT_UNSPEC // other programs of the link come next

#define INLINE static __attribute__((always_inline)) inline
#define CALLED static __attribute__((noinline)) // from several places

enum kind {
	SYN,	// opens a TCP connection
	STREAM, // other TCP
	DATAGRAM,
	ERROR, // an ICMP error about a packet of the VIP
};

// packet is what the rules ask of one. Of an ICMP error, source and VIP are those of
// the connection that it is about.
struct packet {
	__u32 source[4];
	struct key vip;
	__u16 port; // of the source
	__u16 headers; // of IP and behind it, in bytes
	__u8 ttl;
	__u8 kind;
	bool v6;
	bool whole; // routers must not split it
};

// A pointer that was read before is 32 bits to the compiler, which the verifier refuses.
#define POINTER(FIELD) ((void *)(long)*(const volatile __u32 *)&(FIELD))

// head returns the packet's first n bytes.
INLINE void *head(struct __sk_buff *skb, __u32 n)
{
	void *data = POINTER(skb->data);

	if (data + n <= POINTER(skb->data_end))
		return data;
	if (bpf_skb_pull_data(skb, n))
		return NULL;
	data = POINTER(skb->data);
	if (data + n > POINTER(skb->data_end))
		return NULL;
	return data;
}

// ports reads the header of TCP or UDP at an offset.
INLINE bool ports(struct __sk_buff *skb, __u32 at, struct packet *p)
{
	struct udphdr *udp;
	struct tcphdr *tcp;
	void *h;

	if (p->vip.protocol == IPPROTO_UDP) {
		h = head(skb, at + sizeof(*udp));
		if (!h)
			return false;
		udp = h + at;
		p->port = udp->source;
		p->vip.port = udp->dest;
		p->kind = DATAGRAM;
		p->headers = at - ETH_HLEN + sizeof(*udp);
		return true;
	}
	if (p->vip.protocol != IPPROTO_TCP)
		return false;
	h = head(skb, at + sizeof(*tcp));
	if (!h)
		return false;
	tcp = h + at;
	p->port = tcp->source;
	p->vip.port = tcp->dest;
	p->kind = tcp->syn && !tcp->ack && !tcp->rst && !tcp->fin ? SYN : STREAM;
	p->headers = at - ETH_HLEN + 4 * tcp->doff;
	return true;
}

// turned reads the ports of a packet that the VIP sent; an error has 8 bytes of them.
INLINE bool turned(struct __sk_buff *skb, __u32 at, struct packet *p)
{
	__u16 *port;
	void *h;

	if (p->vip.protocol != IPPROTO_TCP && p->vip.protocol != IPPROTO_UDP)
		return false;
	h = head(skb, at + 8);
	if (!h)
		return false;
	port = h + at;
	p->vip.port = port[0];
	p->port = port[1];
	p->kind = ERROR;
	return true;
}

// Types of ICMP errors.
#define UNREACHABLE 3
#define TIME_EXCEEDED 11
#define BAD_PARAMETER 12
#define FIRST_ERROR6 1
#define LAST_ERROR6 4

INLINE void mapped(__u32 *to, __u32 ip)
{
	to[0] = to[1] = 0;
	to[2] = bpf_htonl(0xffff);
	to[3] = ip;
}

#define FRAGMENT bpf_htons(0x3fff) // an offset, or more to come
#define OFFSET bpf_htons(0x1fff)

INLINE bool error4(struct __sk_buff *skb, __u32 vip, struct packet *p)
{
	const __u32 at = ETH_HLEN + sizeof(struct iphdr), inner = at + 8;
	struct iphdr *ip;
	void *h = head(skb, inner + sizeof(*ip));
	__u8 type;

	if (!h)
		return false;
	type = *(__u8 *)(h + at);
	if (type != UNREACHABLE && type != TIME_EXCEEDED && type != BAD_PARAMETER)
		return false;
	ip = h + inner;
	if (ip->saddr != vip || ip->version != 4 || ip->ihl != 5 || ip->frag_off & OFFSET)
		return false;
	mapped(p->source, ip->daddr);
	mapped(p->vip.ip, ip->saddr);
	p->vip.protocol = ip->protocol;
	return turned(skb, inner + sizeof(*ip), p);
}

// Rule 1 for IPv4: what has options or is a fragment is left to the stack.
INLINE bool read4(struct __sk_buff *skb, struct packet *p)
{
	struct iphdr *ip;
	void *h = head(skb, ETH_HLEN + sizeof(*ip));

	if (!h)
		return false;
	ip = h + ETH_HLEN;
	if (ip->version != 4 || ip->ihl != 5 || ip->frag_off & FRAGMENT)
		return false;
	p->ttl = ip->ttl;
	p->whole = ip->frag_off & bpf_htons(0x4000);
	if (ip->protocol == IPPROTO_ICMP)
		return error4(skb, ip->daddr, p);
	mapped(p->source, ip->saddr);
	mapped(p->vip.ip, ip->daddr);
	p->vip.protocol = ip->protocol;
	return ports(skb, ETH_HLEN + sizeof(*ip), p);
}

INLINE bool same(const __u32 *a, const __u32 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

INLINE bool error6(struct __sk_buff *skb, struct packet *p)
{
	const __u32 at = ETH_HLEN + sizeof(struct ipv6hdr), inner = at + 8;
	struct ipv6hdr *outer, *ip;
	void *h = head(skb, inner + sizeof(*ip));
	__u8 type;

	if (!h)
		return false;
	outer = h + ETH_HLEN;
	type = *(__u8 *)(h + at);
	if (type < FIRST_ERROR6 || type > LAST_ERROR6)
		return false;
	ip = h + inner;
	if (ip->version != 6 || !same(ip->saddr.in6_u.u6_addr32, outer->daddr.in6_u.u6_addr32))
		return false;
	__builtin_memcpy(p->source, &ip->daddr, sizeof(p->source));
	__builtin_memcpy(p->vip.ip, &ip->saddr, sizeof(p->vip.ip));
	p->vip.protocol = ip->nexthdr;
	return turned(skb, inner + sizeof(*ip), p);
}

// Rule 1 for IPv6: what has an extension header is left to the stack.
INLINE bool read6(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6hdr *ip;
	void *h = head(skb, ETH_HLEN + sizeof(*ip));

	if (!h)
		return false;
	ip = h + ETH_HLEN;
	if (ip->version != 6)
		return false;
	p->ttl = ip->hop_limit;
	p->v6 = p->whole = true;
	if (ip->nexthdr == IPPROTO_ICMPV6)
		return error6(skb, p);
	__builtin_memcpy(p->source, &ip->saddr, sizeof(p->source));
	__builtin_memcpy(p->vip.ip, &ip->daddr, sizeof(p->vip.ip));
	p->vip.protocol = ip->nexthdr;
	return ports(skb, ETH_HLEN + sizeof(*ip), p);
}

// read returns false for a packet that the director has nothing to do with.
INLINE bool read(struct __sk_buff *skb, struct packet *p)
{
	if (skb->pkt_type != PACKET_HOST) // a flooding switch gives each node a copy
		return false;
	if (skb->vlan_present) // on a trunk it looks like one without a tag
		return false;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return read4(skb, p);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return read6(skb, p);
	return false;
}

// mix, hash and slot are those of the package director.
INLINE __u64 mix(__u64 x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ULL;
	return x ^ x >> 33;
}

INLINE __u64 word(const __u32 *ip) { return (__u64)bpf_ntohl(ip[0]) << 32 | bpf_ntohl(ip[1]); }

INLINE __u64 hash_address(__u64 h, const __u32 *ip, bool v6)
{
	if (!v6)
		return mix(h ^ bpf_ntohl(ip[3]));
	return mix(mix(h ^ word(ip)) ^ word(ip + 2));
}

INLINE __u64 hash(const struct packet *p, __u32 flags)
{
	__u64 from = bpf_ntohs(p->port), to = bpf_ntohs(p->vip.port);
	__u64 h;

	if (flags & BY_CLIENT) {
		from = 0;
		if (flags & RANGED) // a client stays with its node at all of the ranges' ports
			to = 0;
	}
	h = mix(seed ^ (__u64)p->vip.protocol << 32 ^ from << 16 ^ to);

	h = hash_address(h, p->source, p->v6);
	return hash_address(h, p->vip.ip, p->v6);
}

// way is where a packet is on its way.
struct way {
	__u64 hash;
	struct slot *slot;     // NULL: no node has an endpoint
	struct settings *conf;
	__u32 flags;	       // of the frontend
	__u32 me, sender, hop; // the sender is NOBODY for a packet from outside
	__u32 next;	       // whom it is passed on to; NOBODY
	enum event missed;     // what is ASKED: what is done if conntrack has no connection
	bool looked;	       // what is done depends on conntrack
	bool others;	       // it is LEFT for an endpoint of a node that takes nothing
	bool walks;
	bool closed; // nobody follows, and the connection is closed here: reset what is not of it
};

// bound has an index within an array of mask + 1. The compiler drops a mask that it
// finds to change nothing, and verifiers before 6.3 do not know what it knows.
INLINE __u32 bound(__u32 i, __u32 mask)
{
	asm volatile("" : "+r"(i));
	return i & mask;
}

// has_port reports whether a port is in one of the ranges: the first one that does not end
// before the port is the only one that can have it.
INLINE bool has_port(const struct port_ranges *r, __u16 port)
{
	__u32 at = 0, step;

#pragma unroll
	for (step = RANGES / 2; step; step /= 2)
		if (at + step <= r->count && r->of[bound(at + step - 1, RANGES - 1)].last < port)
			at += step;
	at = bound(at, RANGES - 1);
	return at < r->count && r->of[at].first <= port && port <= r->of[at].last;
}

// find_frontend returns the frontend that has the packet's port, or else the one that has
// it in a range.
INLINE struct frontend *find_frontend(const struct packet *p, const struct settings *conf)
{
	struct key key = p->vip;
	struct frontend *f;
	struct port_ranges *r;

	if (!key.port) // stands for ranges
		return NULL;
	f = bpf_map_lookup_elem(&frontends, &key);
	if (f || !conf->ranged)
		return f;
	key.port = 0;
	r = bpf_map_lookup_elem(&ranges, &key);
	if (!r || !has_port(r, bpf_ntohs(p->vip.port)))
		return NULL;
	return bpf_map_lookup_elem(&frontends, &key);
}

INLINE bool in_chain(const struct slot *s, __u32 node)
{
	int i;

#pragma unroll
	for (i = 0; i < PLACES; i++)
		if (s->chain[i] == node)
			return true;
	return false;
}

// by_age is the first of the chain that was not asked. Those are not known: a node
// knows itself, the sender, and how many came before the sender.
INLINE __u32 by_age(const struct way *w)
{
	__u32 before = w->hop > 2 ? w->hop - 2 : 0;
	int i;

#pragma unroll
	for (i = 0; i < PLACES; i++) {
		__u32 m = w->slot->chain[i];

		if (m == NOBODY || m == w->me || m == w->sender)
			continue;
		if (!before)
			return m;
		before--;
	}
	return NOBODY;
}

INLINE __u32 place(const struct ring *r, __u32 node)
{
	return node < NODES ? r->place[bound(node, NODES - 1)] : NOBODY;
}

// after is the node that follows n places after a place of the ring.
INLINE __u32 after(const struct ring *r, __u32 at, __u32 n)
{
	at += n;
	if (at >= r->members)
		at -= r->members;
	return r->order[bound(at, NODES - 1)];
}

// near is the node of the chain that follows first in the ring.
INLINE __u32 near(const struct way *w, const struct ring *r, __u32 at)
{
	__u32 best = NOBODY, least = NOBODY;
	int i;

#pragma unroll
	for (i = 0; i < PLACES; i++) {
		__u32 m = w->slot->chain[i], there = place(r, m), distance;

		if (there == NOBODY || m == w->me)
			continue;
		distance = there > at ? there - at : there + r->members - at;
		if (distance < least) {
			least = distance;
			best = m;
		}
	}
	return best;
}

// far is the node that follows first in the ring and is not in the chain. A chain has 8
// nodes, so it is one of the next 9.
INLINE __u32 far(const struct way *w, const struct ring *r, __u32 at)
{
	__u32 m;
	int i;

#pragma unroll
	for (i = 1; i <= PLACES + 1; i++) {
		m = after(r, at, i);
		if (m == w->me)
			break;
		if (!in_chain(w->slot, m))
			return m;
	}
	return NOBODY;
}

INLINE __u32 by_ring(const struct way *w, const struct ring *r)
{
	__u32 at = place(r, w->me), m = NOBODY;

	if (at == NOBODY)
		return NOBODY;
	if (w->slot && r->members > PLACES)
		m = w->hop <= BY_RING ? near(w, r, at) : far(w, r, at);
	return m == NOBODY ? after(r, at, 1) : m;
}

// walk is who gets a packet that this node does not have; NOBODY at the end of the
// walk. It decides as Walk of the package director does.
CALLED __u32 walk(const struct way *w)
{
	__u32 index = w->hash % RINGS, m;
	struct ring *r;

	if (!w->walks || w->hop >= LAST_HOP)
		return NOBODY;
	r = bpf_map_lookup_elem(&rings, &index);
	if (!r || r->members < 2 || w->hop >= BY_RING + r->members)
		return NOBODY;
	if (w->slot && w->hop <= BY_AGE) {
		m = by_age(w);
		if (m != NOBODY)
			return m;
	}
	return by_ring(w, r);
}

INLINE __u64 now(void) { return coarse ? bpf_ktime_get_coarse_ns() : bpf_ktime_get_ns(); }

// Rule 2: set_ttl bounds how often the packet is passed on. The checksum of IPv4 is
// changed by the difference (RFC 1624); a TTL is the upper byte of its word.
INLINE bool set_ttl(struct __sk_buff *skb, const struct packet *p, __u8 ttl)
{
	struct ipv6hdr *ip6;
	struct iphdr *ip;
	__u32 sum;
	void *h;

	if (p->v6) {
		h = head(skb, ETH_HLEN + sizeof(*ip6));
		if (!h)
			return false;
		ip6 = h + ETH_HLEN;
		ip6->hop_limit = ttl;
		return true;
	}
	h = head(skb, ETH_HLEN + sizeof(*ip));
	if (!h)
		return false;
	ip = h + ETH_HLEN;
	sum = bpf_ntohs(ip->check) + ((__u32)(p->ttl - ttl) << 8);
	ip->check = bpf_htons(sum + (sum >= 0xffff));
	ip->ttl = ttl;
	return true;
}

// Rule 7: affords reports whether the source may have one more diversion. A source is
// an IPv4 address, or a /64. Two processors that read at once may give one too many.
INLINE bool affords(const struct packet *p)
{
	__u64 h = p->v6 ? mix(seed ^ word(p->source)) : mix(seed ^ bpf_ntohl(p->source[3]));
	__u32 index = h & (BUCKETS - 1);
	__u64 *bucket = bpf_map_lookup_elem(&buckets, &index), at, t = bpf_ktime_get_ns();

	if (!bucket)
		return false;
	at = *bucket > t ? *bucket : t;
	if (at - t > burst)
		return false;
	*bucket = at + earn;
	return true;
}

enum entry { NONE, UNANSWERED, CLOSED, OPEN };

// continues reports whether a segment is in the window of a connection in TIME_WAIT. Conntrack
// takes a FIN that is sent again for the other side's, so one side may still be sending. The
// tuple's next connection begins far from that window: within the two minutes of TIME_WAIT the
// numbers of a client that follows RFC 6528 do not come back to it.
INLINE bool continues(struct __sk_buff *skb, const struct packet *p, const struct nf_conn *ct)
{
	__u32 at = ETH_HLEN + (p->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)), seq, end, most, window;

	if (p->kind != STREAM || bpf_skb_load_bytes(skb, at + __builtin_offsetof(struct tcphdr, seq), &seq, sizeof(seq)))
		return false;
	seq = bpf_ntohl(seq);
	// To the verifier of Linux 6.1, the same bytes are fields of DCCP, the first of the union that
	// has any there, and it refuses to load them in this size. To read them by a helper is allowed.
	if (bpf_core_read(&end, sizeof(end), &ct->proto.tcp.seen[0].td_end) ||
	    bpf_core_read(&most, sizeof(most), &ct->proto.tcp.seen[0].td_maxend) ||
	    bpf_core_read(&window, sizeof(window), &ct->proto.tcp.seen[1].td_maxwin))
		return false;
	return (__s32)(seq - most) <= 0 && (__s32)(seq - end + window) > 0;
}

// found is what conntrack has for a connection to the VIP.
CALLED enum entry found(struct __sk_buff *skb, const struct packet *p)
{
	struct bpf_ct_opts opts = {.netns = -1, .protocol = p->vip.protocol};
	struct bpf_sock_tuple tuple = {};
	enum entry e = OPEN;
	struct nf_conn *ct;
	__u8 state;

	if (p->v6) {
		__builtin_memcpy(tuple.ipv6.saddr, p->source, sizeof(tuple.ipv6.saddr));
		__builtin_memcpy(tuple.ipv6.daddr, p->vip.ip, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.sport = p->port;
		tuple.ipv6.dport = p->vip.port;
		ct = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv6), &opts, sizeof(opts));
	} else {
		tuple.ipv4.saddr = p->source[3];
		tuple.ipv4.daddr = p->vip.ip[3];
		tuple.ipv4.sport = p->port;
		tuple.ipv4.dport = p->vip.port;
		ct = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));
	}
	if (!ct)
		return NONE;
	if (p->vip.protocol == IPPROTO_TCP) {
		state = ct->proto.tcp.state;
		if (state == CLOSE || (state == TIME_WAIT && !continues(skb, p, ct)))
			e = CLOSED;
		else if (!(ct->status & SEEN_REPLY))
			e = UNANSWERED;
	}
	bpf_ct_release(ct);
	return e;
}

// look is what conntrack has for the packet's connection. Without the oracle it is nothing,
// and decide leaves the question to nftables.
INLINE enum entry look(struct __sk_buff *skb, const struct packet *p, struct way *w, bool oracle)
{
	w->looked = true;
	return oracle ? found(skb, p) : NONE;
}

// to has a node named as the next.
INLINE enum event to(struct way *w, __u32 node, enum event e)
{
	w->next = node;
	return e;
}

// apart reports whether the slot's primary takes nothing that is passed on.
INLINE bool apart(const struct way *w) { return w->slot && w->slot->chain[0] == NOBODY; }

// Rule 4: a node that can serve takes what opens a connection, so that tables that differ
// send it to nobody twice. At the end of the walk the stack has it.
INLINE enum event opens(struct way *w)
{
	__u32 next;

	if (apart(w) && w->sender == NOBODY) {
		w->others = w->flags & APART;
		return LEFT;
	}
	if (w->flags & HAS_ENDPOINTS)
		return SERVED;
	next = w->slot ? walk(w) : NOBODY;
	return next == NOBODY ? LEFT : to(w, next, DIVERTED);
}

// gone is a node that was declared gone lately: it may live, and have the connection. If
// there are several, each gets a part of what the client sends again.
INLINE __u32 gone(const struct way *w)
{
	__u64 t = now();

	if (!w->walks || w->hop >= MOST_HOPS || t >= w->conf->hold)
		return NOBODY;
	return w->conf->gone[bound(t >> 28, GONE - 1)];
}

// Rules 5 and 8: a connection is looked for along the walk. One that is closed counts
// where nobody follows: its tuple may have been used again on another node. That node may
// have lost it since. nftables knows what is not of the closed connection.
INLINE enum event stream_or_error(struct __sk_buff *skb, const struct packet *p, struct way *w, bool oracle)
{
	enum entry e = look(skb, p, w, oracle);
	__u32 next;

	if (e == OPEN)
		return SERVED;
	next = walk(w);
	if (next == NOBODY)
		next = gone(w);
	if (next != NOBODY)
		return to(w, next, DIVERTED);
	if (e == CLOSED) {
		w->closed = w->walks;
		return SERVED;
	}
	return p->kind == ERROR || !w->walks || now() < w->conf->hold ? DROPPED : RESET;
}

// changed reports whether the slot has got its primary so lately that one before it may
// have the connection.
INLINE bool changed(const struct slot *s)
{
	// The cheap clock may still be before the second that the agent wrote.
	return s->changed && (__s64)(now() / 1000000000 - s->changed) < (__s64)stream;
}

// former is who follows this node among the primary and those before it; NOBODY if it is the
// last, or if the sender is none of those that come before it. Such a sender takes this node
// for the primary: it knows a change of the endpoints more or less.
INLINE __u32 former(const struct way *w, bool primary)
{
	bool behind = false, in_turn = primary;
	int i;

#pragma unroll
	for (i = 0; i <= FORMERS; i++) {
		__u32 m = w->slot->chain[i];

		if (m == w->me)
			behind = true;
		else if (!behind)
			in_turn = in_turn || m == w->sender;
		else if (in_turn && m != NOBODY)
			return m;
	}
	return NOBODY;
}

// Rule 6: asked is whom a datagram without an entry is passed on to. The primary asks those
// before it, one after the other, and the last of them sends it back: between two datagrams
// of a flow a slot may have had several primaries. The hop says whether the primary has it
// for the first time: the owner, which passes on a packet at its first hop, may be one of
// those before and has not looked. After that any node that can serve takes it.
INLINE __u32 asked(const struct way *w)
{
	__u32 next = NOBODY;
	bool primary;

	if (!w->slot || w->hop > FORMERS + 1 || !w->walks || apart(w))
		return NOBODY;
	primary = w->slot->chain[0] == w->me;
	if (changed(w->slot) && (!primary || w->hop < 2))
		next = former(w, primary);
	return next == NOBODY && !primary ? w->slot->chain[0] : next;
}

// here is for a packet that this node has to do something about: it is the primary, or
// another node passed it on.
INLINE enum event here(struct __sk_buff *skb, const struct packet *p, struct way *w, bool oracle)
{
	__u32 next;

	if (p->kind == STREAM || p->kind == ERROR)
		return stream_or_error(skb, p, w, oracle);
	if (p->kind == DATAGRAM) {
		if (look(skb, p, w, oracle) != NONE)
			return SERVED;
		next = asked(w);
		if (next != NOBODY)
			return to(w, next, DIVERTED);
	}
	return opens(w);
}

// outside is for a packet that no node has passed on; false: it is for this node to
// decide. In a grace, and when no agent renews the maps, the connections of this node
// come first: they were opened when it served what it received. What opens a connection
// is then left to the stack, but for the grace after turning the director on.
INLINE bool outside(struct __sk_buff *skb, const struct packet *p, struct way *w, bool oracle, enum event *e)
{
	bool off = w->flags & OFF_GRACE || now() > w->conf->until;
	enum entry has;

	*e = LEFT;
	if (off && p->kind == SYN)
		return true;
	if (!w->slot || w->slot->chain[0] == w->me || apart(w))
		return false;
	w->next = w->slot->chain[0];
	*e = DIRECTED;
	if (!off && !(w->flags & ON_GRACE))
		return true;
	has = look(skb, p, w, oracle);
	if (has == OPEN || (has == UNANSWERED && p->kind == SYN))
		*e = LEFT;
	return true;
}

// decide is what is done with a packet, and with w->next for whom. Without the oracle
// nftables does it, if it depends on conntrack and conntrack has no connection. What the
// stack has in any case need not be asked.
INLINE enum event decide(struct __sk_buff *skb, const struct packet *p, struct way *w, bool oracle)
{
	enum event e;

	if (w->sender != NOBODY || !outside(skb, p, w, oracle, &e))
		e = here(skb, p, w, oracle);
	if (oracle || !w->looked || e == SERVED || e == LEFT)
		return e;
	w->missed = e;
	return ASKED;
}

// reached is the node, if it is in another subnet or the link that the packet came by leads to
// it, and if the packet may be passed on once more.
INLINE struct node *reached(struct __sk_buff *skb, const struct packet *p, __u32 node)
{
	struct node *n = bpf_map_lookup_elem(&nodes, &node);

	if (!n || !(n->families & (p->v6 ? 2 : 1)) || p->ttl <= LAST)
		return NULL;
	return n->mtu || n->link == skb->ifindex ? n : NULL;
}

// fold ends a checksum.
INLINE __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

// Second of the monotonic clock.
INLINE __u32 seconds(void) { return now() / 1000000000; }

// way_mtu is how long a packet the way to a node of another subnet takes.
INLINE __u32 way_mtu(const struct node *n, __u32 node, bool v6)
{
	__u32 index = v6 ? node + NODES : node;
	struct path *told = bpf_map_lookup_elem(&paths, &index);

	return told && told->mtu && told->mtu < n->mtu && told->until > seconds() ? told->mtu : n->mtu;
}

// told4 and told6 tell a sender that its packet is too big. They quote as much of it as a
// kernel needs to find the connection.
struct told4 {
	struct ethhdr eth;
	struct iphdr ip;
	__u8 type, code;
	__u16 sum;
	__u32 mtu;
	struct iphdr of;
	__u8 ports[8];
} __attribute__((packed));
struct told6 {
	struct ethhdr eth;
	struct ipv6hdr ip;
	__u8 type, code;
	__u16 sum;
	__u32 mtu;
	struct ipv6hdr of;
	__u8 ports[8];
} __attribute__((packed));

#define BEHIND(T) (sizeof(T) - __builtin_offsetof(T, type)) // bytes of ICMP

// CUT bytes behind the Ethernet header go: hardware would add a checksum there.
#define CUT 100

// answer has t, of size bytes, take the place of the packet, and sends it to where that came
// from.
INLINE int answer(struct __sk_buff *skb, const void *t, __u32 size)
{
	if (bpf_skb_change_tail(skb, size + CUT, 0) || bpf_skb_adjust_room(skb, -CUT, BPF_ADJ_ROOM_MAC, 0) ||
	    bpf_skb_store_bytes(skb, 0, t, size, 0))
		return TC_ACT_SHOT;
	return bpf_redirect(skb->ifindex, 0);
}

CALLED int tell4(struct __sk_buff *skb, __u32 from, __u32 mtu)
{
	struct told4 t = {.ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_ICMP}, .type = UNREACHABLE, .code = 4};

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &t.of, sizeof(t.of) + sizeof(t.ports)) ||
	    bpf_skb_load_bytes(skb, 0, t.eth.h_source, ETH_ALEN) || bpf_skb_load_bytes(skb, ETH_ALEN, t.eth.h_dest, ETH_ALEN))
		return TC_ACT_SHOT;
	t.eth.h_proto = bpf_htons(ETH_P_IP);
	t.ip.tot_len = bpf_htons(sizeof(t) - ETH_HLEN);
	t.ip.saddr = from ? from : t.of.daddr;
	t.ip.daddr = t.of.saddr;
	t.ip.check = fold(bpf_csum_diff(NULL, 0, (void *)&t.ip, sizeof(t.ip), 0));
	t.mtu = bpf_htonl(mtu);
	t.sum = fold(bpf_csum_diff(NULL, 0, (void *)&t.type, BEHIND(struct told4), 0));
	return answer(skb, &t, sizeof(t));
}

CALLED int tell6(struct __sk_buff *skb, const struct node *me, __u32 mtu)
{
	struct told6 t = {.ip = {.version = 6, .hop_limit = 64, .nexthdr = IPPROTO_ICMPV6}, .type = 2};
	__u32 sum = bpf_htonl(BEHIND(struct told6) + IPPROTO_ICMPV6);

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &t.of, sizeof(t.of) + sizeof(t.ports)) ||
	    bpf_skb_load_bytes(skb, 0, t.eth.h_source, ETH_ALEN) || bpf_skb_load_bytes(skb, ETH_ALEN, t.eth.h_dest, ETH_ALEN))
		return TC_ACT_SHOT;
	t.eth.h_proto = bpf_htons(ETH_P_IPV6);
	t.ip.payload_len = bpf_htons(BEHIND(struct told6));
	__builtin_memcpy(&t.ip.saddr, &t.of.daddr, sizeof(t.ip.saddr));
	if (me && me->families & 2)
		__builtin_memcpy(&t.ip.saddr, me->ip, sizeof(t.ip.saddr));
	__builtin_memcpy(&t.ip.daddr, &t.of.saddr, sizeof(t.ip.daddr));
	t.mtu = bpf_htonl(mtu);
	sum = bpf_csum_diff(NULL, 0, (void *)&t.ip.saddr, 2 * sizeof(t.ip.saddr), sum);
	t.sum = fold(bpf_csum_diff(NULL, 0, (void *)&t.type, BEHIND(struct told6), sum));
	return answer(skb, &t, sizeof(t));
}

// too_big tells the sender that its packet is too big. A sender that lets routers split its
// packets would not listen, and of an error nobody may be told one (RFC 4443, section 2.4): the
// stack has these.
INLINE int too_big(struct __sk_buff *skb, const struct packet *p, __u32 self, __u32 mtu, enum event *e)
{
	struct node *me = bpf_map_lookup_elem(&nodes, &self);

	if (!p->whole || p->kind == ERROR)
		return PASS;
	if (!affords(p)) {
		*e = LIMITED;
		return TC_ACT_SHOT;
	}
	*e = TOO_BIG;
	if (p->v6)
		return tell6(skb, me, mtu - ROOM6);
	return tell4(skb, me ? me->ip4 : 0, mtu - ROOM4);
}

// longest is the length of the longest packet that skb leaves as. The kernel may have put
// several of one size together.
INLINE __u32 longest(struct __sk_buff *skb, const struct packet *p)
{
	return skb->gso_size ? p->headers + skb->gso_size : skb->len - ETH_HLEN;
}

// word16 is a length as a header has it. The kernel splits what is longer, and writes the
// lengths itself.
INLINE __u16 word16(__u32 length) { return bpf_htons(length > 0xffff ? 0xffff : length); }

// The header of UDP has no checksum: what it covers has one of its own (RFC 6935).
INLINE void udp_header(struct udphdr *udp, __u16 port, __u32 length)
{
	udp->source = port;
	udp->dest = bpf_htons(PORT);
	udp->len = word16(length);
	udp->check = 0;
}

INLINE bool header4(struct __sk_buff *skb, const struct node *n, __u16 port)
{
	__u32 length = skb->len - ETH_HLEN;
	struct iphdr *ip, *in;
	void *h = head(skb, ETH_HLEN + ROOM4 + sizeof(*in));

	if (!h)
		return false;
	ip = h + ETH_HLEN;
	in = h + ETH_HLEN + ROOM4;
	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = in->tos & ~3; // without the bits of ECN
	ip->tot_len = word16(length);
	ip->frag_off = bpf_htons(0x4000); // its fragments would have no header
	ip->ttl = 64;
	ip->protocol = IPPROTO_UDP;
	ip->saddr = n->source4;
	ip->daddr = n->ip4;
	ip->check = fold(bpf_csum_diff(NULL, 0, (void *)ip, sizeof(*ip), 0));
	udp_header((void *)(ip + 1), port, length - sizeof(*ip));
	return true;
}

INLINE bool header6(struct __sk_buff *skb, const struct node *n, __u16 port)
{
	__u32 length = skb->len - ETH_HLEN - sizeof(struct ipv6hdr);
	struct ipv6hdr *ip, *in;
	void *h = head(skb, ETH_HLEN + ROOM6 + sizeof(*in));

	if (!h)
		return false;
	ip = h + ETH_HLEN;
	in = h + ETH_HLEN + ROOM6;
	*(__u32 *)ip = *(__u32 *)in & bpf_htonl(0xffcfffff); // without the bits of ECN
	ip->payload_len = word16(length);
	ip->nexthdr = IPPROTO_UDP;
	ip->hop_limit = 64;
	__builtin_memcpy(&ip->saddr, n->source, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, n->ip, sizeof(ip->daddr));
	udp_header((void *)(ip + 1), port, length);
	return true;
}

#define EALREADY 114

// wrap makes room for a header of ours. A packet that came over a virtual link with such a
// header is still known to the kernel as one that has it, at the same place.
INLINE bool wrap(struct __sk_buff *skb, bool v6)
{
	const __u64 known = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
	__u64 ip = v6 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV4;
	int room = v6 ? ROOM6 : ROOM4;
	long err = bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, known | ip);

	if (err == -EALREADY)
		err = bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, known);
	return !err;
}

// pass_far sends the packet to a node of another subnet, behind a header of ours. The port
// that it is from lets the network spread connections.
INLINE int pass_far(struct __sk_buff *skb, const struct packet *p, const struct way *w, const struct node *n, __u8 ttl, enum event *e)
{
	__u32 mtu = way_mtu(n, w->next, p->v6);
	__u16 port = bpf_htons(0xc000 | (w->hash & 0x3fff));

	if (longest(skb, p) + (p->v6 ? ROOM6 : ROOM4) > mtu)
		return too_big(skb, p, w->me, mtu, e);
	if (!set_ttl(skb, p, ttl))
		return PASS;
	if (!wrap(skb, p->v6) || !(p->v6 ? header6(skb, n, port) : header4(skb, n, port)))
		return TC_ACT_SHOT;
	return bpf_redirect_neigh(n->link, NULL, 0, 0);
}

// pass_on sends the packet to another node, by the link that it came by or to another subnet.
// Where it does not get there, the stack does what it does without a director.
INLINE int pass_on(struct __sk_buff *skb, const struct packet *p, const struct way *w, enum event *e)
{
	struct node *n = reached(skb, p, w->next);
	struct bpf_redir_neigh hop = {};
	__u8 ttl = p->ttl - 1;

	if (!n)
		return PASS;
	if (ttl > FIRST)
		ttl = FIRST;
	if (n->mtu)
		return pass_far(skb, p, w, n, ttl, e);
	if (!set_ttl(skb, p, ttl))
		return PASS;
	if (p->v6) {
		hop.nh_family = FAMILY_IPV6;
		__builtin_memcpy(hop.ipv6_nh, n->ip, sizeof(hop.ipv6_nh));
	} else {
		hop.nh_family = FAMILY_IPV4;
		hop.ipv4_nh = n->ip4;
	}
	return bpf_redirect_neigh(skb->ifindex, &hop, sizeof(hop), 0);
}

// ask leaves the packet to nftables, which looks for its connection. It reports whether it
// can. nftables takes 1 off the TTL when it passes the packet on. What this node may serve
// has the mark for that, and another node gets it at the expense of its source.
INLINE bool ask(struct __sk_buff *skb, const struct packet *p, const struct way *w)
{
	__u32 miss = w->missed == RESET ? RESET_IT : DROP_IT;
	struct node *n;

	if (w->missed == DIRECTED || w->missed == DIVERTED) {
		n = reached(skb, p, w->next);
		if (!n || n->mtu) // nftables writes no header of ours
			return false;
		if (p->ttl > FIRST + 1 && !set_ttl(skb, p, FIRST + 1))
			return false;
		miss = NEXT + w->next;
	}
	if (w->missed != DIRECTED)
		skb->mark |= mark_serve;
	skb->priority = ASK | miss;
	return true;
}

// act does what was decided, and changes e where it cannot be done.
INLINE int act(struct __sk_buff *skb, const struct packet *p, const struct way *w, enum event *e)
{
	int verdict = PASS;

	switch (*e) {
	case DIVERTED:
		if (!affords(p)) {
			*e = LIMITED;
			return TC_ACT_SHOT;
		}
		/* fallthrough */
	case DIRECTED:
		verdict = pass_on(skb, p, w, e);
		if (verdict == PASS)
			*e = LEFT;
		return verdict;
	case DROPPED:
		return TC_ACT_SHOT;
	case SERVED:
		skb->mark |= w->closed ? mark_serve | mark_reset : mark_serve;
		return PASS;
	case RESET:
		skb->mark |= mark_reset;
		return PASS;
	case ASKED:
		if (!ask(skb, p, w))
			*e = LEFT;
		return PASS;
	case LEFT:
		if (w->others)
			skb->mark |= mark_serve | mark_reset;
		return PASS;
	default:
		return PASS;
	}
}

INLINE void note(const struct way *w, enum event e)
{
	__u32 zero = 0;
	struct counts *c = bpf_map_lookup_elem(&counters, &zero);
	__u64 *n;

	if (!c)
		return;
	c->events[bound(e, EVENTS - 1)]++;
	if (e == SERVED)
		c->hops[bound(w->hop, HOPS - 1)]++;
	if (e == DIVERTED) {
		n = bpf_map_lookup_elem(&diverted, &w->next);
		if (n)
			(*n)++;
	}
}

// seen counts a packet from outside, by VIP and by the node that it is for.
INLINE void seen(const struct packet *p, const struct frontend *f, const struct way *w)
{
	__u32 primary = w->slot ? w->slot->chain[0] : NOBODY;
	struct count *c = bpf_map_lookup_elem(&vips, &f->vip);

	if (c) {
		c->packets++;
		c->opened += p->kind == SYN;
	}
	c = bpf_map_lookup_elem(&chosen, &primary);
	if (c) {
		c->packets++;
		c->opened += p->kind == SYN;
	}
}

INLINE bool find_slot(const struct frontend *f, struct way *w)
{
	__u32 at = (w->hash >> 32) * f->slots >> 32;
	void *table;

	if (!f->slots)
		return true;
	table = bpf_map_lookup_elem(&tables, &f->table);
	if (!table)
		return false;
	w->slot = bpf_map_lookup_elem(table, &at);
	return w->slot;
}

// owner is the node that has an address; NOBODY.
INLINE __u32 owner(const struct address *a)
{
	__u32 *node = bpf_map_lookup_elem(&peers, a);

	return node ? *node : NOBODY;
}

INLINE __u32 owner4(__u32 ip)
{
	struct address a;

	mapped(a.ip, ip);
	return owner(&a);
}

INLINE __u32 owner6(const struct in6_addr *ip)
{
	struct address a;

	__builtin_memcpy(a.ip, ip, sizeof(a.ip));
	return owner(&a);
}

// learn takes in what a router says about a packet that this node sent to another one: the
// way does not take it.
INLINE void learn(__u32 node, __u32 mtu, bool v6)
{
	__u32 index = v6 ? node + NODES : node, least = v6 ? LEAST6 : LEAST4;
	struct path *told = bpf_map_lookup_elem(&paths, &index);

	if (!told) // nobody has the address
		return;
	told->mtu = mtu < least ? least : mtu;
	told->until = seconds() + TOLD_FOR;
}

struct outer4 {
	struct iphdr ip;
	union {
		struct udphdr udp;
		struct {
			__u8 type, code;
			__u16 sum, zero, mtu;
		} icmp;
	};
	struct iphdr in;
	struct udphdr inner;
};
struct outer6 {
	struct ipv6hdr ip;
	union {
		struct udphdr udp;
		struct {
			__u8 type, code;
			__u16 sum;
			__u32 mtu;
		} icmp;
	};
	struct ipv6hdr in;
	struct udphdr inner;
};

// Agents ask each other whether packets get there. Their messages begin with a byte that is of
// no version of IP, and are for the stack.
#define QUESTION 0

// wrapped4 is who sent a packet that has a header of ours to this node; NOBODY if it has none.
// One that no node sent is forged, or not ours.
INLINE __u32 wrapped4(struct __sk_buff *skb, __u32 me, bool *forged)
{
	void *h = head(skb, ETH_HLEN + sizeof(struct outer4));
	struct outer4 *o;
	__u32 from;

	if (!h)
		return NOBODY;
	o = h + ETH_HLEN;
	if (o->ip.ihl != 5 || o->ip.frag_off & FRAGMENT)
		return NOBODY;
	if (o->ip.protocol == IPPROTO_UDP && o->udp.dest == bpf_htons(PORT) && owner4(o->ip.daddr) == me) {
		from = owner4(o->ip.saddr);
		*forged = from == NOBODY || from == me || (o->in.version != 4 && o->in.version != QUESTION);
		return o->in.version == QUESTION ? NOBODY : from;
	}
	if (o->ip.protocol == IPPROTO_ICMP && o->icmp.type == UNREACHABLE && o->icmp.code == 4 && o->in.ihl == 5 &&
	    o->in.protocol == IPPROTO_UDP && o->inner.dest == bpf_htons(PORT) && owner4(o->in.saddr) == me)
		learn(owner4(o->in.daddr), bpf_ntohs(o->icmp.mtu), false);
	return NOBODY;
}

INLINE __u32 wrapped6(struct __sk_buff *skb, __u32 me, bool *forged)
{
	void *h = head(skb, ETH_HLEN + sizeof(struct outer6));
	struct outer6 *o;
	__u32 from;

	if (!h)
		return NOBODY;
	o = h + ETH_HLEN;
	if (o->ip.nexthdr == IPPROTO_UDP && o->udp.dest == bpf_htons(PORT) && owner6(&o->ip.daddr) == me) {
		from = owner6(&o->ip.saddr);
		*forged = from == NOBODY || from == me || (o->in.version != 6 && o->in.version != QUESTION);
		return o->in.version == QUESTION ? NOBODY : from;
	}
	if (o->ip.nexthdr == IPPROTO_ICMPV6 && o->icmp.type == 2 && o->in.nexthdr == IPPROTO_UDP &&
	    o->inner.dest == bpf_htons(PORT) && owner6(&o->in.saddr) == me)
		learn(owner6(&o->in.daddr), bpf_ntohl(o->icmp.mtu), true);
	return NOBODY;
}

// unwrap takes a header of ours off, and returns the node that sent it; NOBODY if there is
// none.
INLINE __u32 unwrap(struct __sk_buff *skb, __u32 me, bool *forged)
{
	bool v6 = skb->protocol == bpf_htons(ETH_P_IPV6);
	__u32 from = NOBODY;

	if (skb->pkt_type != PACKET_HOST || skb->vlan_present)
		return NOBODY;
	if (v6)
		from = wrapped6(skb, me, forged);
	else if (skb->protocol == bpf_htons(ETH_P_IP))
		from = wrapped4(skb, me, forged);
	if (from == NOBODY || *forged)
		return NOBODY;
	*forged = bpf_skb_adjust_room(skb, v6 ? -(int)ROOM6 : -(int)ROOM4, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO);
	return from;
}

// find_sender is rule 3: who sent it, and after how many hops. What has a larger TTL
// was passed on by nobody, though a node may be the client. A node of another subnet is
// known by the header that was taken off.
INLINE void find_sender(struct __sk_buff *skb, const struct packet *p, struct way *w, __u32 far)
{
	struct mac mac = {};
	__u32 *node;
	void *h;

	w->sender = NOBODY;
	w->walks = p->ttl > FIRST;
	if (w->walks)
		return;
	h = head(skb, ETH_HLEN);
	if (!h)
		return;
	__builtin_memcpy(mac.address, h + ETH_ALEN, ETH_ALEN);
	node = far == NOBODY ? bpf_map_lookup_elem(&macs, &mac) : &far;
	if (!node)
		return;
	w->sender = *node;
	w->hop = FIRST + 1 - p->ttl;
	w->walks = true;
}

INLINE int direct(struct __sk_buff *skb, bool oracle)
{
	__u32 zero = 0, far = NOBODY; // the node that sent it from another subnet
	struct way w = {.next = NOBODY};
	struct packet p = {};
	struct frontend *f = NULL;
	enum event e = LEFT;
	bool forged = false;
	int verdict = PASS;

	w.conf = bpf_map_lookup_elem(&config, &zero);
	if (!w.conf)
		return PASS;
	w.me = w.conf->me;
	if (w.conf->far)
		far = unwrap(skb, w.me, &forged);
	if (!forged && read(skb, &p))
		f = find_frontend(&p, w.conf);
	if (forged || (far != NOBODY && (!f || p.ttl > FIRST))) { // a node sends no such packet
		note(&w, FORGED);
		// What still has all its headers may be an answer: masquerading takes any port for a
		// connection's source, and conntrack alone knows it. The agent throws the rest away.
		return far == NOBODY ? PASS : TC_ACT_SHOT;
	}
	if (!f)
		return PASS;
	w.flags = f->flags;
	w.hash = hash(&p, f->flags);
	if (find_slot(f, &w)) {
		find_sender(skb, &p, &w, far);
		if (w.sender == NOBODY)
			seen(&p, f, &w);
		e = decide(skb, &p, &w, oracle);
		verdict = act(skb, &p, &w, &e);
	}
	note(&w, e);
	return verdict;
}

SEC("tc")
int with_oracle(struct __sk_buff *skb) { return direct(skb, true); }

// without_oracle is for kernels without the conntrack functions.
SEC("tc")
int without_oracle(struct __sk_buff *skb) { return direct(skb, false); }

char _license[] SEC("license") = "GPL";
