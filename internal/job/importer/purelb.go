package importer

import (
	"fmt"
	"io"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// PureLB converts PureLB's ServiceGroups and its LBNodeAgent.
func PureLB(w io.Writer, objects []Object) (comments int, err error) {
	p := &purelb{page: newPage()}
	for _, o := range objects {
		if err := p.add(o, source{"PureLB", "purelb.io", pureLBAnnotations}, p.addKind); err != nil {
			return 0, err
		}
	}
	for _, g := range p.groups {
		p.group(g)
	}
	for _, a := range p.agents {
		p.agent(a)
	}
	return p.write(w)
}

type purelb struct {
	page
	groups []serviceGroup
	agents []nodeAgent
}

// serviceGroup is a ServiceGroup of purelb.io/v1 or v2. In v1, local is also for
// addresses outside of the nodes' networks, which v2 has in remote.
type serviceGroup struct {
	meta
	Spec struct {
		Local  *pureLBPools `json:"local"`
		Remote *pureLBPools `json:"remote"`
	} `json:"spec"`
}

type pureLBPools struct {
	pureLBPool
	V4Pool  *pureLBPool  `json:"v4pool"`
	V6Pool  *pureLBPool  `json:"v6pool"`
	V4Pools []pureLBPool `json:"v4pools"`
	V6Pools []pureLBPool `json:"v6pools"`
}

// pureLBPool is a range of addresses within a subnet.
type pureLBPool struct {
	Subnet      string `json:"subnet"`
	Pool        string `json:"pool"`
	Aggregation string `json:"aggregation"`
}

type nodeAgent struct {
	meta
	Spec struct {
		Local struct {
			LocalInterface string `json:"localint"`
		} `json:"local"`
	} `json:"spec"`
}

var pureLBAnnotations = map[string]string{
	"purelb.io/service-group": v1alpha1.AnnotationPool, "purelb.io/addresses": v1alpha1.AnnotationAddresses,
	"purelb.io/allow-shared-ip": v1alpha1.AnnotationShareKey,
}

func (p *purelb) addKind(kind, id string, o Object) error {
	switch kind {
	case "ServiceGroup":
		return decode(&p.page, id, o, func(g serviceGroup) { p.groups = append(p.groups, g) })
	case "LBNodeAgent":
		return decode(&p.page, id, o, func(a nodeAgent) { p.agents = append(p.agents, a) })
	}
	p.other = append(p.other, id+" has no equal")
	return nil
}

// unasked is the ServiceGroup of Services that name none.
const unasked = "default"

func (p *purelb) group(g serviceGroup) {
	id := "ServiceGroup/" + g.Name
	out := poolCalled(g.Name)
	if g.Name != unasked {
		no := false
		out.Spec.AutoAssign = &no
	}
	var notes []string
	for _, part := range []*pureLBPools{g.Spec.Local, g.Spec.Remote} {
		for _, r := range part.pools() {
			entry, why := poolEntry(r.Pool)
			if why != "" {
				notes = append(notes, why)
			}
			out.Spec.Addresses = append(out.Spec.Addresses, entry)
			if a := strings.TrimPrefix(r.Aggregation, "/"); a != "" && a != "default" && a != "32" && a != "128" {
				notes = append(notes, "aggregation "+r.Aggregation+": write it into the spec.bgp.aggregationLength of an Announcement")
			}
		}
	}
	if g.Spec.Remote != nil {
		notes = append(notes, "PureLB leaves these addresses to a routing daemon on the nodes: make a BGPPeer for each router, and an Announcement with bgp")
	}
	if len(out.Spec.Addresses) == 0 {
		p.other = append(p.other, id+" has no addresses of its own: it has no equal")
		return
	}
	p.put(out, id, notes...)
}

// pools lists every range.
func (p *pureLBPools) pools() (out []pureLBPool) {
	if p == nil {
		return nil
	}
	out = append(out, p.pureLBPool)
	for _, one := range []*pureLBPool{p.V4Pool, p.V6Pool} {
		if one != nil {
			out = append(out, *one)
		}
	}
	out = slices.Concat(out, p.V4Pools, p.V6Pools)
	return slices.DeleteFunc(out, func(r pureLBPool) bool { return r.Pool == "" })
}

// agent names the link that every node announces on, if the agents do not find it.
func (p *purelb) agent(a nodeAgent) {
	link := a.Spec.Local.LocalInterface
	if link == "" || link == unasked {
		return
	}
	var notes []string
	if !plainLink.MatchString(link) {
		notes = append(notes, fmt.Sprintf("localint: fairlead has names and patterns such as eth*, not regular expressions: write %q so", link))
	}
	p.put(&v1alpha1.Announcement{
		TypeMeta: typeOf("Announcement"), ObjectMeta: metav1.ObjectMeta{Name: a.Name},
		Spec: v1alpha1.AnnouncementSpec{L2: &v1alpha1.L2Announcement{Interfaces: []string{link}}},
	}, "LBNodeAgent/"+a.Name, notes...)
}
