package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/doctor"
	"github.com/fairlead/fairlead/internal/cli/host"
)

// examineHost looks at this machine. A cluster, if one can be reached, tells
// which other nodes it should reach.
func (e *Env) examineHost(ctx context.Context, x examine) ([]doctor.Finding, error) {
	if x.name == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("this node's name: %w", err)
		}
		x.name = name
	}
	var s *cluster.State
	if o, _, err := e.read(ctx); err == nil {
		s = o.State()
	} else {
		fmt.Fprintf(e.Err, "the other nodes are not looked at: %v\n", err)
	}
	h, err := host.Read(ctx, host.Options{Node: x.name, Sysctls: x.sysctl, Cluster: s})
	if err != nil {
		return nil, err
	}
	return doctor.Node(h), nil
}
