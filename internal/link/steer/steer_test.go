package steer_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/fairlead/fairlead/internal/link/steer"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

var space = steer.Space{Priority: 102, First: 7950, Most: 3}

// shows returns the rules and routes of both families that the kernel has in space.
func shows(t *testing.T, node nstest.Space) string {
	t.Helper()
	var out []string
	for _, family := range []string{"-4", "-6"} {
		for line := range strings.Lines(node.Run(t, "ip", family, "rule")) {
			if strings.Contains(line, "fwmark") {
				out = append(out, strings.Join(strings.Fields(line), " "))
			}
		}
		for number := range space.Most {
			text, _ := node.Try("ip", family, "route", "show", "table", fmt.Sprint(space.First+number))
			for line := range strings.Lines(text) {
				if !strings.Contains(line, "FIB table does not exist") && !strings.Contains(line, "Dump terminated") {
					out = append(out, fmt.Sprintf("%d: %s", space.First+number, strings.Join(strings.Fields(line), " ")))
				}
			}
		}
	}
	return strings.Join(out, "\n")
}

// Sync makes the kernel hold what is asked for and touches nobody else's, however often it
// is called and whatever others have changed.
func TestSync(t *testing.T) {
	node := nstest.New(t, "node")
	node.Run(t, "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "far")
	node.Run(t, "ip", "link", "set", "eth1", "up")
	node.Run(t, "ip", "link", "set", "far", "up")
	node.Run(t, "ip", "addr", "add", "198.18.3.11/24", "dev", "eth1")
	node.Run(t, "ip", "rule", "add", "fwmark", "9", "table", "99", "priority", "102")
	node.Run(t, "ip", "route", "add", "default", "via", "198.18.3.1", "dev", "eth1", "table", "99")
	foreign := shows(t, node)
	var eth1 int
	node.Do(t, func() error {
		l, err := netlink.LinkByName("eth1")
		if err == nil {
			eth1 = l.Attrs().Index
		}
		return err
	})
	sync := func(tables ...steer.Table) {
		t.Helper()
		node.Do(t, func() error { return space.Sync(tables) })
	}
	route := func(dst, via string) steer.Route {
		r := steer.Route{Dst: netip.MustParsePrefix(dst), Link: eth1}
		if via != "" {
			r.Via = netip.MustParseAddr(via)
		}
		return r
	}
	one := steer.Table{Number: 2, Mark: 2, Mask: 0xf, Routes: []steer.Route{
		route("198.18.3.0/24", ""), route("0.0.0.0/0", "198.18.3.254"), route("fd98:18:3::/64", ""), route("::/0", "fe80::254")}}
	sync(one)
	want := shows(t, node)
	for _, line := range []string{
		"102: from all fwmark 0x2/0xf lookup 7951",
		"7951: default via 198.18.3.254 dev eth1 proto static onlink", "7951: 198.18.3.0/24 dev eth1 proto static scope link",
		"7951: default via fe80::254 dev eth1 proto static metric 1024 onlink", "7951: fd98:18:3::/64 dev eth1 proto static metric 1024",
	} {
		if !strings.Contains(want, line) {
			t.Errorf("%q is missing in\n%s", line, want)
		}
	}
	node.Do(t, func() error {
		if links, err := space.Links(); err != nil || fmt.Sprint(links) != fmt.Sprint(map[int]int{2: eth1}) {
			t.Errorf("links %v, %v", links, err)
		}
		return nil
	})
	for _, repair := range [][]string{
		nil,
		{"ip", "rule", "del", "priority", "102", "fwmark", "2/0xf"},
		{"ip", "-6", "route", "flush", "table", "7951"},
		{"ip", "route", "add", "198.51.100.0/24", "dev", "eth1", "table", "7952"},
		{"ip", "route", "replace", "default", "via", "198.18.3.77", "dev", "eth1", "table", "7951", "proto", "static"},
	} {
		if repair != nil {
			node.Run(t, repair...)
		}
		sync(one)
		if got := shows(t, node); got != want {
			t.Errorf("after %q there is\n%s\nwant\n%s", repair, got, want)
		}
	}
	other := one
	other.Routes = []steer.Route{route("198.18.3.0/24", ""), route("0.0.0.0/0", "198.18.3.253")}
	sync(other)
	if got := shows(t, node); strings.Contains(got, ".254") || !strings.Contains(got, ".253") || strings.Contains(got, "fd98") {
		t.Errorf("another router: %s", got)
	}
	node.Do(t, space.Cleanup)
	if got := shows(t, node); got != foreign {
		t.Errorf("left:\n%s\nwant\n%s", got, foreign)
	}
	node.Do(t, space.Cleanup)
}

// A link keeps its number, and gets the lowest one that is free otherwise.
func TestNumbers(t *testing.T) {
	for _, tt := range []struct {
		links []int
		had   map[int]int
		want  map[int]int
	}{
		{nil, nil, map[int]int{}},
		{[]int{4, 9}, nil, map[int]int{4: 1, 9: 2}},
		{[]int{4, 9}, map[int]int{1: 9, 3: 7}, map[int]int{9: 1, 4: 2}},
		{[]int{4, 9}, map[int]int{2: 9, 3: 9}, map[int]int{9: 2, 4: 1}},
		{[]int{1, 2, 3, 4}, map[int]int{3: 4}, map[int]int{1: 1, 2: 2, 4: 3}}, // three are the most
	} {
		if got := steer.Numbers(tt.links, tt.had, 3); fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%v with %v: %v, want %v", tt.links, tt.had, got, tt.want)
		}
	}
}
