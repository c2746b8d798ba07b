package importer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

// config is MetalLB's configuration, in the order of the text.
type config struct {
	pools       []addressPool
	l2          []l2Advertisement
	bgp         []bgpAdvertisement
	peers       []bgpPeer
	profiles    map[string]bfdProfile
	communities map[string]string
	unread      map[string][]string // fields without equal, by KIND/NAME
	other       []string            // objects that are passed over
}

// read reads YAML or JSON documents, and the Lists that kubectl prints.
func read(r io.Reader) (*config, error) {
	c := &config{profiles: map[string]bfdProfile{}, communities: map[string]string{}, unread: map[string][]string{}}
	docs := yaml.NewYAMLOrJSONDecoder(r, 4096)
	for {
		var raw json.RawMessage
		err := docs.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		if len(bytes.TrimSpace(raw)) == 0 || string(raw) == "null" {
			continue
		}
		if err := c.add(raw); err != nil {
			return nil, err
		}
	}
}

func (c *config) add(raw []byte) error {
	var head struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Items             []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return fmt.Errorf("no Kubernetes object: %w", err)
	}
	if strings.HasSuffix(head.Kind, "List") {
		for _, item := range head.Items {
			if err := c.add(item); err != nil {
				return err
			}
		}
		return nil
	}
	id := head.Kind + "/" + head.Name
	if group, _, _ := strings.Cut(head.APIVersion, "/"); group != "metallb.io" {
		c.other = append(c.other, id+" is not MetalLB's")
		return nil
	}
	unread, err := c.addMetalLB(head.Kind, id, raw)
	if err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	c.unread[id] = unread
	return nil
}

func (c *config) addMetalLB(kind, id string, raw []byte) (unread []string, err error) {
	switch kind {
	case "IPAddressPool":
		return decode(raw, func(o addressPool) { c.pools = append(c.pools, o) })
	case "L2Advertisement":
		return decode(raw, func(o l2Advertisement) { c.l2 = append(c.l2, o) })
	case "BGPAdvertisement":
		return decode(raw, func(o bgpAdvertisement) { c.bgp = append(c.bgp, o) })
	case "BGPPeer":
		return decode(raw, func(o bgpPeer) { c.peers = append(c.peers, o) })
	case "BFDProfile":
		return decode(raw, func(o bfdProfile) { c.profiles[o.Name] = o })
	case "Community":
		return decode(raw, func(o community) {
			for _, a := range o.Spec.Communities {
				c.communities[a.Name] = a.Value
			}
		})
	}
	c.other = append(c.other, id+" has no equal")
	return nil, nil
}

// decode reads an object of one kind and returns which of its fields that kind
// does not have here.
func decode[T any](raw []byte, take func(T)) (unread []string, err error) {
	var o T
	if err := sigsyaml.Unmarshal(raw, &o); err != nil {
		return nil, err
	}
	take(o)
	var all, known map[string]any
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(json.Unmarshal(raw, &all), json.Unmarshal(text, &known)); err != nil {
		return nil, err
	}
	return missing("spec.", all["spec"], known["spec"]), nil
}
