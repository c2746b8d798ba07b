// Package seed makes the pools, announcements and peers that an installation was
// given, as soon as the API server knows their kinds.
package seed

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/internal/kube"
)

// Apply makes the objects of manifests that are not there yet, and leaves those
// that are as they are. A kind that the API server does not know, or an API server
// that does not answer, is tried again until patience is over; a refusal is not.
func Apply(ctx context.Context, clients *kube.Clients, manifests []byte, patience time.Duration) (made []string, err error) {
	docs := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifests)))
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return made, nil
		}
		if err != nil {
			return made, fmt.Errorf("manifests: %w", err)
		}
		if len(bytes.TrimSpace(doc)) == 0 {
			continue
		}
		o, err := read(clients, doc)
		if err != nil {
			return made, err
		}
		there, err := insist(ctx, patience, o)
		if err != nil {
			return made, fmt.Errorf("make %s: %w", o.name, err)
		}
		if !there {
			made = append(made, o.name)
		}
	}
}

// manager is whom the objects' fields belong to: Helm, which goes on with them at
// the next upgrade.
const manager = "helm"

// insist makes the object until it is there; it tells whether it was before.
func insist(ctx context.Context, patience time.Duration, o object) (there bool, err error) {
	var last error
	err = wait.PollUntilContextTimeout(ctx, time.Second, patience, true, func(ctx context.Context) (bool, error) {
		if last = o.get(ctx); last == nil {
			there = true
			return true, nil
		}
		if !apierrors.IsNotFound(last) {
			return false, refused(last)
		}
		last = o.apply(ctx)
		return last == nil, refused(last)
	})
	if err != nil {
		return false, errors.Join(last, ctx.Err())
	}
	return there, nil
}

// refused returns err if trying again would not help.
func refused(err error) error {
	if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err) {
		return err
	}
	return nil
}

// object is one manifest.
type object struct {
	name       string // for people
	get, apply func(context.Context) error
}

func read(clients *kube.Clients, doc []byte) (object, error) {
	var head metav1.PartialObjectMetadata
	if err := yaml.Unmarshal(doc, &head); err != nil {
		return object{}, fmt.Errorf("manifests: %w", err)
	}
	o := object{name: strings.ToLower(head.Kind) + " " + head.Name}
	var resource string
	switch head.Kind {
	case "AddressPool":
		resource, o.get = "addresspools", getter(clients.Pools, head.Name)
	case "Announcement":
		resource, o.get = "announcements", getter(clients.Announcements, head.Name)
	case "BGPPeer":
		resource, o.get = "bgppeers", getter(clients.BGPPeers, head.Name)
	default:
		return o, fmt.Errorf("manifests: the kind %q is none of AddressPool, Announcement, BGPPeer", head.Kind)
	}
	o.apply = func(ctx context.Context) error { return clients.Apply(ctx, resource, head.Name, manager, doc) }
	return o, nil
}

func getter[T, L any](objects kube.Objects[T, L], name string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := objects.Get(ctx, name, metav1.GetOptions{})
		return err
	}
}
