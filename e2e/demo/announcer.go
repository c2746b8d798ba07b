package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/fairlead/fairlead/e2e/lab"
)

// Announcer is the node that answers ARP or NDP for an address.
type Announcer struct{ IP, Node, Link, MAC string }

// FindAnnouncer reads the LAN client's neighbour table and looks for the node
// with the link that it names.
func FindAnnouncer(ctx context.Context, l *lab.Lab, ip string) (Announcer, error) {
	out, err := l.Exec(ctx, lab.Client, "ip", "-json", "neigh", "show", "to", ip)
	if err != nil {
		return Announcer{}, err
	}
	mac, err := neighbour(out)
	if err != nil {
		return Announcer{}, fmt.Errorf("%s at the LAN client: %w", ip, err)
	}
	var unseen error
	for _, name := range l.Nodes() {
		out, err := l.Exec(ctx, name, "ip", "-json", "link", "show")
		if err != nil {
			unseen = errors.Join(unseen, err) // it may have no power
			continue
		}
		if link := linkWith(out, mac); link != "" {
			return Announcer{IP: ip, Node: name, Link: link, MAC: mac}, nil
		}
	}
	return Announcer{IP: ip, MAC: mac}, errors.Join(fmt.Errorf("%s is at %s, which is not a node's link", ip, mac), unseen)
}

// neighbour reads the link address out of "ip -json neigh".
func neighbour(data []byte) (string, error) {
	var list []struct{ LLAddr string }
	if err := json.Unmarshal(data, &list); err != nil {
		return "", fmt.Errorf("neighbour table: %w", err)
	}
	if len(list) != 1 || list[0].LLAddr == "" {
		return "", fmt.Errorf("neighbour table has no link address: %s", strings.TrimSpace(string(data)))
	}
	return list[0].LLAddr, nil
}

// linkWith finds the name of the link with the address mac in "ip -json link".
func linkWith(data []byte, mac string) string {
	var list []struct{ IfName, Address string }
	if json.Unmarshal(data, &list) != nil {
		return ""
	}
	for _, link := range list {
		if strings.EqualFold(link.Address, mac) {
			return link.IfName
		}
	}
	return ""
}
