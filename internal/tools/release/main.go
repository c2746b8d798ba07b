// Command release makes all files of a release from a checkout, without a network
// service or a container engine: binaries, images, chart, plugin manifest, bill of
// materials, licences and checksums. The same commit, version and Go toolchain
// give the same bytes.
//
//	release -version v0.1.0 [-root DIR] [-out DIR]
//	release -licences [-root DIR]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
)

func main() {
	version := flag.String("version", "", "the release, such as v0.1.0")
	root := flag.String("root", ".", "top of the checkout")
	out := flag.String("out", "dist", "directory to write; what is in it goes")
	system := flag.String("os", "", "try it with the programs of this system alone, such as linux; all if empty")
	only := flag.Bool("licences", false, "check the licences of what the programs are built from, and nothing else")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, *version, *root, *out, *system, *only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1) //nolint:gocritic // the process ends: there is nothing left to stop
	}
}

func run(ctx context.Context, version, root, out, system string, only bool) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	if only {
		libraries, err := libraries(ctx, root)
		if err != nil {
			return err
		}
		fmt.Print(summary(libraries))
		return nil
	}
	r, err := newRelease(ctx, version, root, out)
	if err != nil {
		return err
	}
	r.targets = slices.DeleteFunc(slices.Clone(targets), func(t target) bool { return system != "" && t.os != system })
	return r.make(ctx)
}
