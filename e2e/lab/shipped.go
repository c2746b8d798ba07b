package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// BuildShipped builds fairlead of this checkout as it ships into dir, for who runs it
// outside a lab, and returns the program's path.
func BuildShipped(ctx context.Context, dir string) (string, error) {
	root, err := Checkout()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "fairlead")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", stripped, "-o", path, "./cmd/fairlead")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build fairlead: %w: %s", err, out)
	}
	return path, nil
}
