// Command release makes the files of a release that goreleaser cannot make without a
// registry and a container engine: the images, their digest and the bill of materials,
// from the programs that goreleaser built. It also checks the licences of all modules
// and writes their texts. The same input gives the same bytes.
//
//	release -licences [-root DIR]
//	release -notices FILE [-root DIR]
//	release -version v0.1.0 -artifacts FILE -out DIR [-root DIR]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// options are the flags.
type options struct {
	root, notices, version, artifacts, out string
	check                                  bool
}

func main() {
	var o options
	flag.StringVar(&o.root, "root", ".", "top of the checkout")
	flag.BoolVar(&o.check, "licences", false, "print how many modules have which licence")
	flag.StringVar(&o.notices, "notices", "", "write the texts of all licences into this file")
	flag.StringVar(&o.version, "version", "", "the release, such as v0.1.0")
	flag.StringVar(&o.artifacts, "artifacts", "", "goreleaser's artifacts.json, which names the programs")
	flag.StringVar(&o.out, "out", "", "directory for images and bill of materials")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1) //nolint:gocritic // the process ends: there is nothing left to stop
	}
}

// run fails in every case if a module has no licence or one that is not allowed.
func (o options) run(ctx context.Context) error {
	root, err := filepath.Abs(o.root)
	if err != nil {
		return err
	}
	libraries, err := libraries(ctx, root)
	if err != nil {
		return err
	}
	if o.check {
		fmt.Print(summary(libraries))
	}
	if o.notices != "" {
		if err := os.WriteFile(o.notices, notices(libraries), 0o644); err != nil {
			return err
		}
	}
	if o.artifacts == "" {
		return nil
	}
	r, err := newRelease(ctx, o.version, root, o.out)
	if err != nil {
		return err
	}
	r.libraries, r.notices = libraries, notices(libraries)
	programs, err := built(root, o.artifacts)
	if err != nil {
		return err
	}
	if err := r.images(programs); err != nil {
		return fmt.Errorf("images: %w", err)
	}
	return r.bill(programs)
}
