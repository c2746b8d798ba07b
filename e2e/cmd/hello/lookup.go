package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"slices"

	"github.com/fairlead/fairlead/e2e/probe"
)

// lookupCommand prints what the resolver says of a name.
func lookupCommand(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: hello lookup NAME")
	}
	name, err := net.DefaultResolver.LookupCNAME(ctx, args[0])
	if err != nil {
		return err
	}
	addrs, err := net.DefaultResolver.LookupHost(ctx, args[0])
	if dns := (*net.DNSError)(nil); err != nil && !errors.As(err, &dns) {
		return err // a name may have no address, or none that this resolver knows
	}
	slices.Sort(addrs)
	return json.NewEncoder(os.Stdout).Encode(probe.Name{Canonical: name, Addresses: addrs})
}
