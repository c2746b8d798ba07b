package ebpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy/ebpf/content"
)

// words is an address as the programs see it: 16 bytes in network order.
func words(a netip.Addr) (w [4]uint32) {
	b := a.As16()
	for i := range w {
		w[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return w
}

func addrOf(w [4]uint32) netip.Addr {
	var b [16]byte
	for i, v := range w {
		binary.NativeEndian.PutUint32(b[4*i:], v)
	}
	return netip.AddrFrom16(b).Unmap()
}

// network turns a port between the machine's byte order and the network's.
func network(port uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, port))
}

func addressOf(a netip.AddrPort) connectAddress {
	return connectAddress{Ip: words(a.Addr()), Port: network(a.Port())}
}

func (a connectAddress) addrPort() netip.AddrPort {
	return netip.AddrPortFrom(addrOf(a.Ip), network(a.Port))
}

func frontendOf(k content.Key) connectFrontend {
	return connectFrontend{Ip: words(k.Addr), Port: network(k.Port), Protocol: uint8(k.Protocol)}
}

func (f connectFrontend) key() content.Key {
	return content.Key{Addr: addrOf(f.Ip), Port: network(f.Port), Protocol: snapshot.Protocol(f.Protocol)}
}

func memberOf(m content.Member) connectMember {
	return connectMember{Front: frontendOf(m.Key), Endpoint: addressOf(m.Addr)}
}

func slotOf(s content.Slot) connectSlot { return connectSlot{List: s.List, Number: s.Number} }

// write makes what a Change adds and replaces be found, and what it removes not any
// more. It is in the order that the Change asks for.
func (m *connectMaps) write(c *content.Change) error {
	one := func(int) uint8 { return 1 }
	nodeIP := func(a netip.Addr) connectAddress { return connectAddress{Ip: words(a)} }
	return first(
		func() error {
			return put(m.Endpoints, c.Endpoints, func(e content.Endpoint) connectSlot { return slotOf(e.Slot) },
				func(i int) connectAddress { return addressOf(c.Endpoints[i].Addr) })
		},
		func() error { return put(m.Members, c.Members, memberOf, one) },
		func() error {
			return put(m.Services, c.Services, func(s content.Service) connectFrontend { return frontendOf(s.Key) },
				func(i int) connectService {
					s := c.Services[i]
					return connectService{List: s.List, Count: s.Count, Affinity: s.Affinity}
				})
		},
		func() error { return put(m.NodeIps, c.NodeIPs, nodeIP, one) },
		func() error { return remove(m.NodeIps, c.GoneNodeIPs, nodeIP) },
		func() error { return remove(m.Services, c.GoneServices, frontendOf) },
	)
}

// clear deletes what is not found any more after write.
func (m *connectMaps) clear(c *content.Change) error {
	return first(
		func() error { return remove(m.Members, c.GoneMembers, memberOf) },
		func() error { return remove(m.Endpoints, c.GoneSlots, slotOf) },
	)
}

// first does one after the other, until one fails.
func first(all ...func() error) error {
	for _, f := range all {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// few is how many entries are cheaper to write one by one: each batch sets up
// buffers in the kernel.
const few = 3

func put[T, K, V any](m *ebpf.Map, all []T, key func(T) K, value func(int) V) error {
	keys, values := make([]K, len(all)), make([]V, len(all))
	for i, e := range all {
		keys[i], values[i] = key(e), value(i)
		if len(all) <= few {
			if err := m.Put(&keys[i], &values[i]); err != nil {
				return notWritten(m, err)
			}
		}
	}
	if len(all) <= few {
		return nil
	}
	if _, err := m.BatchUpdate(keys, values, nil); err != nil {
		return notWritten(m, err)
	}
	return nil
}

// notWritten says why a map could not be written. The kernel says E2BIG when a hash map
// is full, which the library takes for a key that is too big.
func notWritten(m *ebpf.Map, err error) error {
	if errors.Is(err, unix.E2BIG) {
		return fmt.Errorf("write %s: it is full, with %d entries: %w", m, m.MaxEntries(), unix.E2BIG)
	}
	return fmt.Errorf("write %s: %w", m, err)
}

// remove deletes what is there.
func remove[T, K any](m *ebpf.Map, all []T, key func(T) K) error {
	for _, e := range all {
		k := key(e)
		if err := m.Delete(&k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete from %s: %w", m, err)
		}
	}
	return nil
}

// read returns all that the agent's maps hold.
func (m *connectMaps) read() (*content.Held, error) {
	h := &content.Held{}
	return h, first(
		func() error {
			return each(m.Services, func(k connectFrontend, v connectService) {
				h.Services = append(h.Services, content.Service{Key: k.key(), List: v.List, Count: v.Count, Affinity: v.Affinity})
			})
		},
		func() error {
			return each(m.Endpoints, func(k connectSlot, v connectAddress) {
				h.Endpoints = append(h.Endpoints, content.Endpoint{Slot: content.Slot{List: k.List, Number: k.Number}, Addr: v.addrPort()})
			})
		},
		func() error {
			return each(m.Members, func(k connectMember, _ uint8) {
				h.Members = append(h.Members, content.Member{Key: k.Front.key(), Addr: k.Endpoint.addrPort()})
			})
		},
		func() error {
			return each(m.NodeIps, func(k connectAddress, _ uint8) { h.NodeIPs = append(h.NodeIPs, addrOf(k.Ip)) })
		},
	)
}

// each calls f for each entry of a hash map.
func each[K, V any](m *ebpf.Map, f func(K, V)) error {
	var at ebpf.MapBatchCursor
	keys, values := make([]K, 4096), make([]V, 4096)
	for {
		n, err := m.BatchLookup(&at, keys, values, nil)
		for i := range n {
			f(keys[i], values[i])
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil // the end
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", m, err)
		}
	}
}
