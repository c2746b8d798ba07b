//go:build !linux

package cli

import (
	"context"
	"errors"

	"github.com/fairlead/fairlead/internal/cli/doctor"
)

func (e *Env) examineHost(context.Context, examine) ([]doctor.Finding, error) {
	return nil, errors.New("--node looks at the machine that it runs on: run it on a node")
}
