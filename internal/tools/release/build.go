package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// target is a system that programs are built for.
type target struct{ os, arch string }

var targets = []target{
	{"linux", "amd64"}, {"linux", "arm64"},
	{"darwin", "amd64"}, {"darwin", "arm64"},
	{"windows", "amd64"}, {"windows", "arm64"},
}

// The commands below cmd/ that are built.
const (
	mainCommand = "fairlead" // outside Linux it is the kubectl plugin alone
	ccmCommand  = "fairlead-ccm"
)

// commands are those that are built for a system.
func commands(system string) []string {
	if system == "linux" {
		return []string{mainCommand, ccmCommand}
	}
	return []string{mainCommand}
}

// program is what was built of a command for a target.
type program struct {
	target
	command string
	content []byte
}

// file is the name of a command's program.
func (t target) file(command string) string {
	if t.os == "windows" {
		return command + ".exe"
	}
	return command
}

// tags are the build tags. With grpcnotrace, grpc does not import html/template,
// which would keep the linker from dropping methods that nothing calls.
const tags = "grpcnotrace"

// largest is the most bytes that a program may have. It is above all of them, and
// below what they have if the linker keeps every exported method.
const largest = 60_000_000

// build compiles the commands for every target. It passes what git knows as flags,
// because what the Go command would find out depends on the tags that a clone has.
func (r *release) build(ctx context.Context) ([]program, error) {
	dir, err := os.MkdirTemp("", "fairlead-release-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var programs []program
	for _, t := range r.targets {
		env := []string{"CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=", "GOOS=" + t.os, "GOARCH=" + t.arch, "GOAMD64=v1", "GOARM64=v8.0"}
		for _, command := range commands(t.os) {
			path := filepath.Join(dir, t.os+"-"+t.arch+"-"+command)
			_, err := output(ctx, r.root, env, "go", "build", "-trimpath", "-buildvcs=false", "-tags", tags,
				"-ldflags", "-s -w -X main.version="+r.version+" -X main.commit="+r.commit, "-o", path, "./cmd/"+command)
			if err != nil {
				return nil, err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			if len(content) > largest {
				return nil, fmt.Errorf("%s for %s/%s has %d bytes, more than %d: docs/design.md says what usually makes it grow", command, t.os, t.arch, len(content), largest)
			}
			programs = append(programs, program{t, command, content})
		}
	}
	return programs, nil
}
