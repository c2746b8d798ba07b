package chores

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
)

// LabelDeclared is on the objects that an installation's values declare. What has it and
// is declared no more is deleted.
const LabelDeclared = "fairlead.io/declared"

// declareEvery is how often the declared objects are looked at: what somebody changed in
// them is set back by then.
const declareEvery = time.Minute

// manager is whom the objects' fields belong to: Helm. Version 0.1.0 made them as objects
// of the release, and does so again after a rollback.
const manager = "helm"

// declared keeps the AddressPools, Announcements and BGPPeers that an installation
// declares.
type declared struct {
	clients   *kube.Clients
	manifests string // YAML
	log       *slog.Logger
	said      string // why something is kept, as it was logged last
}

// object is one of them.
type object struct {
	resource, name string
	manifest       []byte
}

func (o object) String() string { return o.resource + "/" + o.name }

// resources are the kinds that can be declared.
var resources = map[string]string{"AddressPool": "addresspools", "Announcement": "announcements", "BGPPeer": "bgppeers"}

// read splits manifests into objects.
func read(manifests string) (objects []object, err error) {
	docs := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(manifests)))
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("manifests: %w", err)
		}
		if len(bytes.TrimSpace(doc)) == 0 {
			continue
		}
		var head metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(doc, &head); err != nil {
			return nil, fmt.Errorf("manifests: %w", err)
		}
		resource, ok := resources[head.Kind]
		if !ok {
			return nil, fmt.Errorf("manifests: %q is not one of the kinds AddressPool, Announcement and BGPPeer", head.Kind)
		}
		objects = append(objects, object{resource: resource, name: head.Name, manifest: doc})
	}
}

// keep makes the declared objects as they are declared, and deletes those that were
// declared before. One that is refused does not keep the others back.
func (d *declared) keep(ctx context.Context) error {
	objects, err := read(d.manifests)
	if err != nil {
		return err
	}
	var problems []error
	for _, o := range objects {
		if err := d.clients.Apply(ctx, o.resource, o.name, manager, o.manifest); err != nil {
			problems = append(problems, fmt.Errorf("make %s: %w", o, err))
		}
	}
	return errors.Join(append(problems, d.prune(ctx, objects))...)
}

// prune deletes what was declared before and is not among objects. As long as a Service
// holds an address of a pool that is among it, nothing is deleted: an upgrade that
// forgot its values must not take addresses and sessions away.
func (d *declared) prune(ctx context.Context, objects []object) error {
	gone, err := d.before(ctx, objects)
	if err != nil || len(gone) == 0 {
		d.said = ""
		return err
	}
	used, err := d.used(ctx, gone)
	if err != nil {
		return err
	}
	if len(used) > 0 {
		if text := strings.Join(used, ", "); text != d.said {
			d.said = text
			d.log.Warn("Services still hold addresses of pools that were taken out of the values: keeping everything that was taken out", "pools", text)
		}
		return nil
	}
	var problems []error
	for _, o := range gone {
		err := d.delete(ctx, o)
		if err == nil {
			d.log.Info("deleted what was taken out of the values", "object", o.String())
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// before returns what was declared and is not among objects.
func (d *declared) before(ctx context.Context, objects []object) (gone []object, err error) {
	which := metav1.ListOptions{LabelSelector: LabelDeclared + "=true"}
	add := func(resource string, list runtime.Object, errList error) {
		if errList != nil {
			err = errors.Join(err, fmt.Errorf("list %s: %w", resource, errList))
			return
		}
		for _, name := range names(list) {
			if !slices.ContainsFunc(objects, func(o object) bool { return o.resource == resource && o.name == name }) {
				gone = append(gone, object{resource: resource, name: name})
			}
		}
	}
	pools, errPools := d.clients.Pools.List(ctx, which)
	add("addresspools", pools, errPools)
	announcements, errAnnouncements := d.clients.Announcements.List(ctx, which)
	add("announcements", announcements, errAnnouncements)
	peers, errPeers := d.clients.BGPPeers.List(ctx, which)
	add("bgppeers", peers, errPeers)
	return gone, err
}

func names(list runtime.Object) (names []string) {
	switch l := list.(type) {
	case *v1alpha1.AddressPoolList:
		for i := range l.Items {
			names = append(names, l.Items[i].Name)
		}
	case *v1alpha1.AnnouncementList:
		for i := range l.Items {
			names = append(names, l.Items[i].Name)
		}
	case *v1alpha1.BGPPeerList:
		for i := range l.Items {
			names = append(names, l.Items[i].Name)
		}
	}
	return names
}

// used returns the names of the pools among objects that Services hold addresses of.
func (d *declared) used(ctx context.Context, objects []object) (pools []string, err error) {
	list, err := d.clients.Addresses.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for i := range list.Items {
		a := &list.Items[i]
		for _, h := range a.Spec.Holders {
			name := cmp.Or(h.Pool, a.Spec.Pool)
			if slices.ContainsFunc(objects, func(o object) bool { return o.resource == "addresspools" && o.name == name }) {
				pools = append(pools, name)
			}
		}
	}
	slices.Sort(pools)
	return slices.Compact(pools), nil
}

func (d *declared) delete(ctx context.Context, o object) error {
	var err error
	switch o.resource {
	case "addresspools":
		err = d.clients.Pools.Delete(ctx, o.name, metav1.DeleteOptions{})
	case "announcements":
		err = d.clients.Announcements.Delete(ctx, o.name, metav1.DeleteOptions{})
	case "bgppeers":
		err = d.clients.BGPPeers.Delete(ctx, o.name, metav1.DeleteOptions{})
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", o, err)
	}
	return nil
}
