package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// shippedArgs are the arguments of go that build the programs of a checkout into dir
// as they ship. Without grpcnotrace they would be half as large again.
func shippedArgs(dir string) []string {
	return []string{"build", "-v", "-trimpath", "-tags", "grpcnotrace", "-ldflags", stripped, "-o", dir + "/", "./cmd/..."}
}

// BuildShipped builds fairlead and fairlead-ccm of this checkout into dir as they
// ship, for tests that run them outside a lab. It returns the path of fairlead.
func BuildShipped(ctx context.Context, dir string) (string, error) {
	root, err := Checkout()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", shippedArgs(dir)...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS="+os.Getenv("GOFLAGS")+" -buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build fairlead: %w: %s", err, out)
	}
	return filepath.Join(dir, "fairlead"), nil
}
