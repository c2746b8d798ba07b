package importer

import (
	"io"
)

// MetalLB converts MetalLB's configuration.
func MetalLB(w io.Writer, objects []Object) (comments int, err error) {
	m := &maker{page: newPage(), profiles: map[string]bfdProfile{}, communities: map[string]string{}, peerNames: map[string][]string{}}
	for _, o := range objects {
		if err := m.add(o, source{"MetalLB", "metallb.io", nil}, m.addKind); err != nil {
			return 0, err
		}
	}
	for _, p := range m.pools {
		m.pool(p)
	}
	for _, p := range m.peers {
		m.peer(p)
	}
	for _, a := range m.l2s {
		m.l2(a)
	}
	for _, a := range m.bgps {
		m.bgp(a)
	}
	return m.write(w)
}

// maker holds MetalLB's configuration, in the order of the text, and what is made of it.
type maker struct {
	page
	pools       []addressPool
	l2s         []l2Advertisement
	bgps        []bgpAdvertisement
	peers       []bgpPeer
	profiles    map[string]bfdProfile
	communities map[string]string
	peerNames   map[string][]string // ours, by MetalLB's
}

func (m *maker) addKind(kind, id string, raw Object) error {
	switch kind {
	case "IPAddressPool":
		return decode(&m.page, id, raw, func(o addressPool) { m.pools = append(m.pools, o) })
	case "L2Advertisement":
		return decode(&m.page, id, raw, func(o l2Advertisement) { m.l2s = append(m.l2s, o) })
	case "BGPAdvertisement":
		return decode(&m.page, id, raw, func(o bgpAdvertisement) { m.bgps = append(m.bgps, o) })
	case "BGPPeer":
		return decode(&m.page, id, raw, func(o bgpPeer) { m.peers = append(m.peers, o) })
	case "BFDProfile":
		return decode(&m.page, id, raw, func(o bfdProfile) { m.profiles[o.Name] = o })
	case "Community":
		return decode(&m.page, id, raw, func(o community) {
			for _, a := range o.Spec.Communities {
				m.communities[a.Name] = a.Value
			}
		})
	}
	m.other = append(m.other, id+" has no equal")
	return nil
}
