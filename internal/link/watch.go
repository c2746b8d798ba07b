package link

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/internal/marks"
)

// events are what the kernel says of links, addresses and routes.
type events struct {
	links  chan netlink.LinkUpdate
	addrs  chan netlink.AddrUpdate
	routes chan netlink.RouteUpdate
	lost   chan error
	done   chan struct{} // closed when nobody listens any more
}

// Watch calls changed when it begins to listen to the kernel, and after every change of
// a link, of an address that is not a VIP's lease, of a route to one address, or of a
// default route, until ctx ends. It returns an error if the kernel's events can't be had or were lost. Then
// call Watch again: changed is called, and the State that is read then misses nothing.
func Watch(ctx context.Context, changed func()) error {
	e := &events{
		links: make(chan netlink.LinkUpdate, 256), addrs: make(chan netlink.AddrUpdate, 1024), routes: make(chan netlink.RouteUpdate, 1024),
		lost: make(chan error, 3), done: make(chan struct{}),
	}
	defer close(e.done)
	if err := e.subscribe(); err != nil {
		return err
	}
	changed()
	for {
		concerns, err := e.next(ctx)
		if err != nil || ctx.Err() != nil {
			return err
		}
		if concerns {
			changed()
		}
	}
}

func (e *events) subscribe() error {
	fail := func(err error) {
		select {
		case e.lost <- err:
		default:
		}
	}
	if err := netlink.LinkSubscribeWithOptions(e.links, e.done, netlink.LinkSubscribeOptions{ErrorCallback: fail}); err != nil {
		return fmt.Errorf("subscribe to link events: %w", err)
	}
	go drain(e.done, e.links)
	if err := netlink.AddrSubscribeWithOptions(e.addrs, e.done, netlink.AddrSubscribeOptions{ErrorCallback: fail}); err != nil {
		return fmt.Errorf("subscribe to address events: %w", err)
	}
	go drain(e.done, e.addrs)
	if err := netlink.RouteSubscribeWithOptions(e.routes, e.done, netlink.RouteSubscribeOptions{ErrorCallback: fail}); err != nil {
		return fmt.Errorf("subscribe to route events: %w", err)
	}
	go drain(e.done, e.routes)
	return nil
}

// drain takes what comes after done. A subscription that waits to deliver an event would
// never end.
func drain[E any](done <-chan struct{}, events <-chan E) {
	<-done
	for range events {
		continue
	}
}

// next waits for an event and reports whether the State may differ after it.
func (e *events) next(ctx context.Context) (concerns bool, err error) {
	select {
	case <-ctx.Done():
		return false, nil
	case err := <-e.lost:
		return false, fmt.Errorf("link events: %w", err)
	case _, ok := <-e.links:
		return true, ended(ok, "link")
	case a, ok := <-e.addrs:
		return !isLease(a), ended(ok, "address")
	case r, ok := <-e.routes:
		// A route with a gateway may replace one to a pod.
		_, one := single(r.Route)
		return one && r.Route.Type != unix.RTN_LOCAL || toAll(r.Route), ended(ok, "route")
	}
}

// toAll reports whether r is a default route that is not fairlead's.
func toAll(r netlink.Route) bool {
	if marks.Own(r.Table) {
		return false
	}
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}

func ended(ok bool, what string) error {
	if ok {
		return nil
	}
	return fmt.Errorf("%s events: subscription ended", what)
}

func isLease(u netlink.AddrUpdate) bool {
	return u.NewAddr && l2.IsOurs(netlink.Addr{IPNet: &u.LinkAddress, Flags: u.Flags, PreferedLft: u.PreferedLft, ValidLft: u.ValidLft})
}
