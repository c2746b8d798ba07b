package main

import (
	"context"
	"os"
	"path/filepath"
)

// target is a system that the program is built for. On Linux it is the whole
// product; elsewhere it is the kubectl plugin.
type target struct{ os, arch string }

var targets = []target{
	{"linux", "amd64"}, {"linux", "arm64"},
	{"darwin", "amd64"}, {"darwin", "arm64"},
	{"windows", "amd64"}, {"windows", "arm64"},
}

// program is what was built for a target.
type program struct {
	target
	content []byte
}

// name of the program's file.
func (t target) name() string {
	if t.os == "windows" {
		return "fairlead.exe"
	}
	return "fairlead"
}

// build compiles the program for every target. What git knows is told by flags,
// because what the Go command would find out depends on the tags that a clone has.
func (r *release) build(ctx context.Context) ([]program, error) {
	dir, err := os.MkdirTemp("", "fairlead-release-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var programs []program
	for _, t := range r.targets {
		path := filepath.Join(dir, t.os+"-"+t.arch)
		env := []string{"CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=", "GOOS=" + t.os, "GOARCH=" + t.arch, "GOAMD64=v1", "GOARM64=v8.0"}
		_, err := output(ctx, r.root, env, "go", "build", "-trimpath", "-buildvcs=false",
			"-ldflags", "-s -w -X main.version="+r.version+" -X main.commit="+r.commit, "-o", path, "./cmd/fairlead")
		if err != nil {
			return nil, err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		programs = append(programs, program{t, content})
	}
	return programs, nil
}
