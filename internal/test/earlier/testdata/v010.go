// The program that package earlier builds in the code of v0.1.0.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// saved is as internal/agent of v0.1.0 has it.
type saved struct {
	Version  int
	Node     string
	Written  time.Time
	Proxy    string
	Snapshot *snapshot.Snapshot
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	in := json.NewDecoder(os.Stdin)
	if args[0] == "sync" {
		fd, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		table := &proxy.Table{}
		if err := in.Decode(table); err != nil {
			return err
		}
		e := nftables.New(nftables.Options{Netns: fd})
		defer e.Close()
		c, err := e.Sync(context.Background(), table)
		fmt.Printf("%+v\n", c)
		return err
	}
	s := &saved{}
	if err := in.Decode(s); err != nil {
		return err
	}
	if s.Version != 1 || s.Snapshot == nil {
		return fmt.Errorf("of version %d", s.Version)
	}
	if args[0] == "save" {
		return json.NewEncoder(os.Stdout).Encode(s)
	}
	s.Snapshot.Sort()
	fmt.Print(proxy.Compile(s.Snapshot, "n1", nil, proxy.Options{}))
	return nil
}
